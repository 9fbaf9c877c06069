"""What samplers share: batches of items in turn, pure functions of the batch's number, so that any can be asked for."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ssljax.data.items import Items
from ssljax.types import Sampler, UserError


@runtime_checkable
class RefreshingSampler(Sampler, Protocol):
    """A sampler that looks at the embeddings from time to time, to make harder batches.

    It has the same items before and after, each as often, so that an epoch keeps its steps.
    """

    @property
    def refresh_every(self) -> int | None:
        """Epochs between refreshes, the first of them before the first step; None: never."""
        ...

    def refresh(self, items: Items, embeddings: np.ndarray, again: int, path: Path) -> None:
        """Writes what follows from the embeddings into the file `path`, a .npy; only the first process does.

        embeddings: f32[n, D] of the train split, 0 for photos that cannot be read; again: how many refreshes came
        before.
        """
        ...

    def reading(self, path: Path) -> Sampler:
        """The sampler that goes by what `refresh` wrote; its `over` raises UserError if that is not there."""
        ...


class Batches:
    """The batches of a split. Their items are photos, listings, classes or triplets, each drawn as a row of photos.

    Every item comes once a pass, in a new order each pass; a remainder smaller than a batch is left out. The parts of
    all processes, one after the other, are the whole batch.

    Args:
        draw: items i64[b] and the batch's number → their photos i64[b, n], by the seed, the batch and the item alone.
        items: m, how many there are.
        what: what errors call them, such as "listings".
        identity: what the batches depend on beside the photos themselves; plain JSON.
        batch_size: over all processes, in units of `photos`.
        seed: decides the order of each pass.
        shard: (index, count) of this process.
        photos: N, photos of one item of the batch that a step gets; a row of n photos is n / N such items.
        per_item: how many of `batch_size` a row counts for.
        order: pass → i64[m], all items in the order of the pass; None shuffles them.
        epoch: photos of an epoch, where it is not a pass.
        alike: whether the photos of a row share label and attributes. Then another of them takes the place of one that
            cannot be read; else, as in a triplet, the whole row gives way.

    Raises:
        UserError: if the processes cannot share a batch equally.
    """

    def __init__(
        self,
        draw: Callable[[np.ndarray, int], np.ndarray],
        items: int,
        what: str,
        identity: dict[str, int],
        *,
        batch_size: int,
        seed: int,
        shard: tuple[int, int],
        photos: int = 1,
        per_item: int = 1,
        order: Callable[[int], np.ndarray] | None = None,
        epoch: int | None = None,
        alike: bool = True,
    ):
        self._taken = batch_size // per_item
        if self._taken % shard[1]:
            raise UserError(f"batch_size={batch_size} is not a multiple of the number of processes, {shard[1]}")
        self.draw, self.photos, self.alike = draw, photos, alike
        self.identity = identity | {"batch_size": batch_size, "seed": seed}
        self.order = functools.partial(shuffled, items, seed) if order is None else order
        self.batches_per_epoch = max(1, (epoch or items) // batch_size)
        self._items, self._what, self._shard = items, what, shard

    def check(self) -> None:
        """Raises UserError if there are fewer items than a batch takes; so does asking for rows.

        It is apart, as what trains for no epoch does without a batch.
        """
        if self._taken > self._items:
            size, items = self.identity["batch_size"], self._items
            raise UserError(
                f"batch_size={size} is larger than the train split's {items} {self._what}: choose at most {items}"
            )

    def rows(self, batch: int) -> np.ndarray:
        """i64[m, n], the process's part of a batch, counted over all epochs; no item twice."""
        items, start = self._place(batch)
        index, count = self._shard
        return self.draw(np.split(items[start : start + self._taken], count)[index], batch)

    def spares(self, batch: int) -> Iterator[np.ndarray]:
        """Rows i64[n] that may take the place of one of the process's: the items that are in no process's batch.

        They come in the order of the pass, from the batch on and then from the beginning. No two processes have the
        same.
        """
        items, start = self._place(batch)
        index, count = self._shard
        for k in range(self._taken + index, self._items, count):
            yield self.draw(items[[(start + k) % self._items]], batch)[0]

    def _place(self, batch: int) -> tuple[np.ndarray, int]:
        """i64[m], all items in the order of a pass, and where the batch begins among them."""
        self.check()
        number, batch = divmod(batch, self._items // self._taken)
        return self.order(number), batch * self._taken


@functools.lru_cache(maxsize=2)  # reading ahead straddles two passes
def shuffled(n: int, seed: int, number: int) -> np.ndarray:
    """i64[n], the numbers below n in the order of a pass."""
    # not Grain's shuffle: it takes seed + epoch, so that seed 1 repeats seed 0 an epoch ahead, and 10 ms a batch
    return np.random.default_rng((seed, number)).permutation(n)


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Groups of photos, listings or classes, of which some photos are drawn."""

    order: np.ndarray
    """i64[n], the rows of photos, group by group"""
    sizes: np.ndarray
    """i64[m], photos of each group"""
    drawn: int
    """N, photos drawn of a group, all different; a smaller group gives some of them again"""
    seed: int
    """decides which"""

    def draw(self, groups: np.ndarray, batch: int) -> np.ndarray:
        """i64[b, N], photos of groups i64[b], drawn by the seed, the batch and the group alone."""
        return np.stack([self._draw_one(group, batch) for group in groups])

    def _draw_one(self, group: int, batch: int) -> np.ndarray:
        rng, size = np.random.default_rng((self.seed, batch, group)), self.sizes[group]
        drawn = rng.choice(size, min(size, self.drawn), replace=False)
        return self.order[self._starts[group] + np.resize(drawn, self.drawn)]

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.sizes) - self.sizes
