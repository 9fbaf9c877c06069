"""Which photos make up which batch: pure functions of the batch's number, so that any batch can be asked for."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ssljax.data.items import Items
from ssljax.fields import check_fields
from ssljax.types import UserError


class Sampler(Protocol):
    """What decides on the batches; samplers are frozen dataclasses: their fields become options."""

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "Shuffled":
        """The batches of a split; raises UserError if it does not suit."""
        ...


@dataclasses.dataclass(frozen=True)
class Photos:
    """Every photo once an epoch, in a new order each epoch."""

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "Shuffled":
        """See `Sampler.over`."""
        n = len(items)
        return Shuffled(np.arange(n), np.ones(n, np.int64), batch_size=batch_size, seed=seed, shard=shard)


@dataclasses.dataclass(frozen=True)
class Listings:
    """Every listing once an epoch, with some of its photos: for natural views, two photos of one listing.

    No listing comes twice in a batch, so that none of its photos is another's negative.
    """

    photos: int = 2
    """Photos of each listing, all different; one that has fewer gives some of them again."""

    def __post_init__(self):
        check_fields(self, "sampler")
        if self.photos < 1:
            raise UserError(f"sampler.photos={self.photos} is too small: it must be at least 1")

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "Shuffled":
        """See `Sampler.over`."""
        if items.listing is None:
            raise UserError("sampler=Listings() needs listings, and the data has none: name the column in data.listing")
        order = np.argsort(items.listing, kind="stable")
        sizes = np.unique(items.listing, return_counts=True)[1]
        if self.photos > 1 and sizes.max() == 1:
            raise UserError(
                f"sampler=Listings() needs listings of several photos, and each of the {len(sizes)} has one: "
                "name another column in data.listing, or leave the sampler as it is"
            )
        return Shuffled(order, sizes, photos=self.photos, batch_size=batch_size, seed=seed, shard=shard)


class Shuffled:
    """Every item once an epoch, in a new order each epoch; a remainder smaller than a batch is left out.

    Args:
        order: i64[n], the photos' rows, item by item.
        sizes: i64[m], how many of them each item has.
        batch_size: items a batch, over all processes.
        seed: decides the orders.
        photos: N, how many photos of an item are drawn.
        shard: (index, count) of this process; the parts of all processes, in turn, are the whole batch.

    Raises:
        UserError: if there are fewer items than a batch takes, or the processes cannot share it equally.
    """

    def __init__(
        self,
        order: np.ndarray,
        sizes: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        photos: int = 1,
        shard: tuple[int, int] = (0, 1),
    ):
        items, rows = len(sizes), len(order)
        if batch_size > items:
            what = f"{items} photos" if items == rows else f"{items} listings"
            raise UserError(f"batch_size={batch_size} is larger than the train split's {what}")
        if batch_size % shard[1]:
            raise UserError(f"batch_size={batch_size} is not a multiple of the number of processes, {shard[1]}")
        self._order, self._sizes, self._starts = order, sizes, np.cumsum(sizes) - sizes
        self.items, self.photos, self.batch_size, self.seed, self._shard = items, photos, batch_size, seed, shard
        self.batches_per_epoch = items // batch_size

    @property
    def identity(self) -> dict[str, int]:
        """What batches depend on, beside the photos themselves."""
        of_items = {"items": self.items, "photos_of_an_item": self.photos} if self.photos > 1 else {}
        return {"photos": len(self._order), "batch_size": self.batch_size, "seed": self.seed} | of_items

    def rows(self, batch: int) -> np.ndarray:
        """i64[batch_size / count, N], the photos of the process's items, counted over all epochs; no item twice."""
        items, start = self._place(batch)
        index, count = self._shard
        return self._draw(np.split(items[start : start + self.batch_size], count)[index], batch)

    def spares(self, batch: int) -> Iterator[np.ndarray]:
        """The photos i64[N] of each item that is in no process's batch: those after it in the epoch's order, and on.

        No two processes have the same.
        """
        items, start = self._place(batch)
        index, count = self._shard
        places = ((start + k) % self.items for k in range(self.batch_size + index, self.items, count))
        return (self._draw(items[place : place + 1], batch)[0] for place in places)

    def _place(self, batch: int) -> tuple[np.ndarray, int]:
        """i64[m], all items in the epoch's order, and where the batch begins in it."""
        epoch, batch = divmod(batch, self.batches_per_epoch)
        return _permutation(self.items, self.seed, epoch), batch * self.batch_size

    def _draw(self, items: np.ndarray, batch: int) -> np.ndarray:
        """i64[b, N], photos of items i64[b], drawn by the seed, the batch and the item alone."""
        if len(self._order) == self.items and self.photos == 1:
            return self._order[items][:, None]
        return np.stack([self._draw_one(item, batch) for item in items])

    def _draw_one(self, item: int, batch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed % 2**64, batch, item))
        return self._order[self._starts[item] + np.resize(rng.permutation(self._sizes[item]), self.photos)]


@functools.lru_cache(maxsize=2)  # reading ahead straddles two epochs
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    # not grain's shuffle, which takes seed + epoch: seed 1 would repeat seed 0, an epoch ahead; and 10 ms a batch
    return np.random.default_rng((seed % 2**64, epoch)).permutation(n)
