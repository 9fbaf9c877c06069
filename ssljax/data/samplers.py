"""Which photos make up which batch: pure functions of the batch's number, so that any batch can be asked for."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ssljax.data.items import Items, encode, nearest
from ssljax.fields import check_fields
from ssljax.types import UserError


class Sampler(Protocol):
    """What decides on the batches; samplers are frozen dataclasses: their fields become options."""

    @property
    def smallest_batch(self) -> int:
        """The least batch_size that there can be."""
        ...

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "Batches":
        """The batches of a split; raises UserError if it does not suit."""
        ...


class Batches(Protocol):
    """The batches of a split, as rows of photos that belong together: of a listing, of a class, or a triplet."""

    photos: int
    """N, photos of one item of a batch: a row of n photos is n / N items"""
    batches_per_epoch: int
    whole: bool
    """a row with a photo that cannot be read is given up as a whole; if not, the row's other photos stand in for it"""

    @property
    def identity(self) -> dict[str, int]:
        """`batch_size`, and what else batches depend on beside the photos themselves."""
        ...

    def rows(self, batch: int) -> np.ndarray:
        """i64[m, n], the process's part of a batch, counted over all epochs."""
        ...

    def spares(self, batch: int) -> Iterator[np.ndarray]:
        """Photos i64[n] that may take the place of a row of the process's part; no two processes have the same."""
        ...


@dataclasses.dataclass(frozen=True)
class Photos:
    """Every photo once an epoch, in a new order each epoch."""

    @property
    def smallest_batch(self) -> int:
        """See `Sampler.smallest_batch`."""
        return 1

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

    @property
    def smallest_batch(self) -> int:
        """See `Sampler.smallest_batch`."""
        return 1

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


@dataclasses.dataclass(frozen=True)
class Classes:
    """P classes x K photos a batch (Hermans et al. 2017, section 2), P = batch_size / K.

    Classes come in turn, whatever their sizes: each once, in a random order, before any comes again (but for those left
    over when fewer than P remain). So rare classes are seen as often as common ones, which evens out what is learnt of
    each, and repeats the photos of the rare. An epoch has as many photos as there are.

    A class gives other photos each time, all different; one that has fewer than K gives some again, as does one with
    photos that cannot be read. Photos without a label are left out. Each process has whole classes.
    """

    per_class: int = 4
    """K, photos of each class."""
    within: str | None = None
    """A column whose values are categories, such as articleType: the classes of a batch are drawn from few categories,
    so that it holds items that are hard to tell apart. A class is in the category that most of its photos have; those
    whose photos have none make up one more. None: any classes come together."""
    categories: int = 1
    """How many categories the classes of a batch are drawn from, with `within`; there are more where a category is
    used up."""
    least: int = 1
    """Classes with fewer photos are left out."""

    def __post_init__(self):
        check_fields(self, "sampler")
        for name, smallest in {"per_class": 2, "categories": 1, "least": 1}.items():
            if getattr(self, name) < smallest:
                raise UserError(f"sampler.{name}={getattr(self, name)} is too small: it must be at least {smallest}")

    @property
    def smallest_batch(self) -> int:
        """See `Sampler.smallest_batch`."""
        return self.per_class * (1 if self.within is None else self.categories)

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> "ClassBatches":
        """See `Sampler.over`."""
        rows = self._labelled(items)
        labels, sizes = np.unique(items.label[rows], return_counts=True)
        self._check(sizes, batch_size, shard[1])
        kept = sizes >= self.least
        rows = rows[np.isin(items.label[rows], labels[kept])]
        rows = rows[np.argsort(items.label[rows], kind="stable")]
        return ClassBatches(
            rows,
            sizes[kept],
            category=None if self.within is None else self._category(items, rows, sizes[kept]),
            categories=self.categories,
            per_class=self.per_class,
            batch_size=batch_size,
            seed=seed,
            shard=shard,
        )

    def _labelled(self, items: Items) -> np.ndarray:
        if items.label is None:
            raise UserError("sampler=Classes() needs labels, and the data has none: name the column in data.label")
        rows = np.flatnonzero(items.label >= 0)
        if not len(rows):
            raise UserError(f"sampler=Classes() needs labels, and all {len(items)} of the train split are missing")
        return rows

    def _check(self, sizes: np.ndarray, batch_size: int, processes: int) -> None:
        """Raises UserError if a batch does not fit classes of these sizes."""
        k, p, largest = self.per_class, batch_size // self.per_class, sizes.max()
        if batch_size % k:
            raise UserError(f"batch_size={batch_size} is not a multiple of sampler.per_class={k}: try {max(p, 1) * k}")
        if p % processes:
            raise UserError(
                f"batch_size={batch_size} is {p} classes of sampler.per_class={k} photos, which {processes} processes "
                f"cannot share equally: try {-(-p // processes) * processes * k}"
            )
        if p % self.categories and self.within is not None:
            raise UserError(
                f"sampler.categories={self.categories} does not divide the {p} classes of a batch "
                f"(batch_size={batch_size} / sampler.per_class={k})"
            )
        if k > largest:
            raise UserError(
                f"sampler.per_class={k} is larger than every class: the largest of {len(sizes)} has {largest} photos"
            )
        if singles := int((sizes[sizes >= self.least] == 1).sum()):
            raise UserError(
                f"sampler=Classes() needs classes of two photos or more, and {singles} of {len(sizes)} have one: leave "
                "them out by sampler.least=2"
            )
        if p > (kept := int((sizes >= self.least).sum())):
            raise UserError(
                f"batch_size={batch_size} is {p} classes of sampler.per_class={k} photos, and the train split has "
                f"{kept} classes of sampler.least={self.least} photos or more: choose at most {kept * k}"
            )

    def _category(self, items: Items, rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """i64[C], the category of each class: the commonest among its photos, of equal ones the first in the alphabet.

        rows: i64[n], the photos, class by class.
        """
        if self.within not in items.columns:
            raise UserError(
                f"sampler.within={self.within!r} is not a column of the data{nearest(self.within, list(items.columns))}"
            )
        codes, values = encode(items.columns[self.within][rows])
        if len(values) <= 1:
            what = f"one value ({values[0]})" if values else "no value"
            raise UserError(
                f"sampler.within={self.within!r} has {what} in {len(rows)} photos: choose a column of several, or None"
            )
        codes = codes + 1  # 0 is blank
        classes = np.repeat(np.arange(len(sizes)), sizes)
        (classes, category), counts = np.unique(np.stack([classes, codes]), axis=1, return_counts=True)
        counts[category == 0] = 0  # the category of a class only where there is no other
        best = np.lexsort((category, -counts, classes))
        return category[best[np.unique(classes, return_index=True)[1]]]


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

    whole = False

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
        self.batches_per_epoch = self._batches_per_pass = items // batch_size
        self._drawn = photos

    @property
    def identity(self) -> dict[str, int]:
        """See `Batches.identity`."""
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
        """i64[m], all items in the order of a pass over them, and where the batch begins in it."""
        number, batch = divmod(batch, self._batches_per_pass)
        return self._order_of_pass(number), batch * self.batch_size

    def _order_of_pass(self, number: int) -> np.ndarray:
        return _permutation(self.items, self.seed, number)

    def _draw(self, items: np.ndarray, batch: int) -> np.ndarray:
        """i64[b, N], photos of items i64[b], drawn by the seed, the batch and the item alone."""
        if len(self._order) == self.items and self._drawn == 1:
            return self._order[items][:, None]
        return np.stack([self._draw_one(item, batch) for item in items])

    def _draw_one(self, item: int, batch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed % 2**64, batch, item))
        size = self._sizes[item]
        drawn = rng.choice(size, min(size, self._drawn), replace=False)
        return self._order[self._starts[item] + np.resize(drawn, self._drawn)]


class ClassBatches(Shuffled):
    """The batches of `Classes`: rows i64[P / count, K], a class each.

    Args:
        order: i64[n], the photos' rows, class by class.
        sizes: i64[C], how many photos each class has.
        category: i64[C], or None.
        categories: from how many a batch is drawn.
        per_class: K.
        batch_size: P x K, over all processes.
        seed: decides the orders.
        shard: (index, count) of this process.
    """

    def __init__(
        self,
        order: np.ndarray,
        sizes: np.ndarray,
        *,
        category: np.ndarray | None,
        categories: int,
        per_class: int,
        batch_size: int,
        seed: int,
        shard: tuple[int, int],
    ):
        super().__init__(order, sizes, batch_size=batch_size // per_class, seed=seed, photos=per_class, shard=shard)
        self.photos, self.batches_per_epoch = 1, max(len(order) // batch_size, 1)
        self._category, self._together = category, self.batch_size // categories

    @property
    def identity(self) -> dict[str, int]:
        """See `Batches.identity`."""
        classes = {"classes": self.items, "photos_of_a_class": self._drawn}
        return {"photos": len(self._order), "batch_size": self.batch_size * self._drawn, "seed": self.seed} | classes

    def _order_of_pass(self, number: int) -> np.ndarray:
        if self._category is None:
            return super()._order_of_pass(number)
        return _order_by_category(self, number)

    def by_category(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """i64[C], `classes` in this order but category by category, cut in parts of which a batch takes `categories`;
        the parts are shuffled."""
        rank = rng.permutation(self._category.max() + 1)
        classes = classes[np.argsort(rank[self._category[classes]], kind="stable")]
        parts, rest = np.split(classes, [self.items // self._together * self._together])
        parts = parts.reshape(-1, self._together)
        return np.concatenate([parts[rng.permutation(len(parts))].reshape(-1), rest])


@functools.lru_cache(maxsize=2)
def _order_by_category(batches: ClassBatches, number: int) -> np.ndarray:
    rng = np.random.default_rng((batches.seed % 2**64, number, 1))
    return batches.by_category(_permutation(batches.items, batches.seed, number), rng)


@functools.lru_cache(maxsize=2)  # reading ahead straddles two epochs
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    # not grain's shuffle, which takes seed + epoch: seed 1 would repeat seed 0, an epoch ahead; and 10 ms a batch
    return np.random.default_rng((seed % 2**64, epoch)).permutation(n)
