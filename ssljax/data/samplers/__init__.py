"""Which photos make up which batch: pure functions of the batch's number, so that any batch can be asked for."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from ssljax.data.items import Items, did_you_mean, encode
from ssljax.types import UserError, check_fields


class Turns:
    """Items in turns: each once a pass, in another order each pass; a remainder smaller than a batch is left out.

    Args:
        order: pass → i64[m], all items in the order of the pass.
        items: m.
        what: how errors call them, such as "listings".
        batch_size: items a batch, over all processes.
        shard: (index, count) of this process; the parts of all processes, in turn, are the whole batch.

    Raises:
        UserError: if there are fewer items than a batch takes, or the processes cannot share it equally.
    """

    def __init__(
        self, order: Callable[[int], np.ndarray], items: int, what: str, *, batch_size: int, shard: tuple[int, int]
    ):
        if batch_size > items:
            raise UserError(
                f"batch_size={batch_size} is larger than the train split's {items} {what}: choose at most {items}"
            )
        if batch_size % shard[1]:
            raise UserError(f"batch_size={batch_size} is not a multiple of the number of processes, {shard[1]}")
        self._order, self._items, self._batch_size, self._shard = order, items, batch_size, shard
        self.batches = items // batch_size

    def taken(self, batch: int) -> np.ndarray:
        """i64[batch_size / count], the process's items of a batch, counted over all passes; no item twice."""
        items, start = self._place(batch)
        index, count = self._shard
        return np.split(items[start : start + self._batch_size], count)[index]

    def left(self, batch: int) -> Iterator[int]:
        """The items that are in no process's batch: those after it in the order of the pass, and on from the beginning.

        No two processes have the same.
        """
        items, start = self._place(batch)
        index, count = self._shard
        return (items[(start + k) % self._items] for k in range(self._batch_size + index, self._items, count))

    def _place(self, batch: int) -> tuple[np.ndarray, int]:
        """i64[m], all items in the order of a pass over them, and where the batch begins in it."""
        number, batch = divmod(batch, self.batches)
        return self._order(number), batch * self._batch_size


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a split, as rows of photos that belong together: of a listing, of a class, or a triplet."""

    turns: Turns
    """which items a batch has; each gives a row"""
    draw: Callable[[np.ndarray, int], np.ndarray]
    """items i64[b] and the batch's number → their rows i64[b, n], by the seed, the batch and the item alone"""
    photos: int
    """N, photos of one item of a batch: a row of n photos is n / N items"""
    batches_per_epoch: int
    identity: dict[str, int]
    """`batch_size`, and what else batches depend on beside the photos themselves"""
    alike: bool = True
    """whether the photos of an item share its label and attributes; one that cannot be read gives way to the others, or
    else, as in a triplet, the item is given up as a whole"""

    def rows(self, batch: int) -> np.ndarray:
        """i64[m, n], the process's part of a batch, counted over all epochs."""
        return self.draw(self.turns.taken(batch), batch)

    def spares(self, batch: int) -> Iterator[np.ndarray]:
        """Photos i64[n] that may take the place of a row of the process's part; no two processes have the same."""
        return (self.draw(np.array([item]), batch)[0] for item in self.turns.left(batch))


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Photos of groups, each a listing or a class, of which some are drawn."""

    order: np.ndarray
    """i64[n], the photos' rows, group by group"""
    sizes: np.ndarray
    """i64[m], how many of them each group has"""
    drawn: int
    """N, how many are drawn, all different; a group that has fewer gives some of them again"""
    seed: int
    """decides which"""

    def draw(self, groups: np.ndarray, batch: int) -> np.ndarray:
        """i64[b, N], photos of groups i64[b], drawn by the seed, the batch and the group alone."""
        return np.stack([self._draw_one(group, batch) for group in groups])

    def _draw_one(self, group: int, batch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, batch, group))
        size = self.sizes[group]
        drawn = rng.choice(size, min(size, self.drawn), replace=False)
        return self.order[self._starts[group] + np.resize(drawn, self.drawn)]

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.sizes) - self.sizes


@dataclasses.dataclass(frozen=True)
class Photos:
    """Every photo once an epoch, in a new order each epoch."""

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        n = len(items)
        turns = Turns(functools.partial(shuffled, n, seed), n, "photos", batch_size=batch_size, shard=shard)
        identity = {"photos": n, "batch_size": batch_size, "seed": seed}
        return Batches(turns, _alone, 1, turns.batches, identity)


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

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
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
        m, groups = len(sizes), Groups(order, sizes, self.photos, seed)
        turns = Turns(functools.partial(shuffled, m, seed), m, "listings", batch_size=batch_size, shard=shard)
        identity = {"photos": len(order), "batch_size": batch_size, "seed": seed}
        if self.photos > 1:
            identity |= {"items": m, "photos_of_an_item": self.photos}
        return Batches(turns, groups.draw, self.photos, turns.batches, identity)


@dataclasses.dataclass(frozen=True)
class Classes:
    """P classes x K photos a batch (Hermans et al. 2017, section 2), P = batch_size / K.

    Classes come in turn, whatever their sizes: each once, in a random order, before any comes again (but for those left
    over when fewer than P remain). So rare classes are seen as often as common ones, which evens out what is learnt of
    each, and repeats the photos of the rare. An epoch has as many photos as these classes.

    A class gives photos drawn anew each time, all different; one that has fewer than K gives some again, as does one
    with photos that cannot be read. Photos without a label are left out. Each process has whole classes.
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

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        rows = self._labelled(items)
        labels, sizes = np.unique(items.label[rows], return_counts=True)
        self._check(sizes, batch_size, shard[1])
        kept = sizes >= self.least
        rows = rows[np.isin(items.label[rows], labels[kept])]
        rows = rows[np.argsort(items.label[rows], kind="stable")]
        sizes, together = sizes[kept], batch_size // self.per_class
        order = functools.partial(shuffled, len(sizes), seed)
        if self.within is not None:
            order = ByCategory(self._category(items, rows, sizes), together // self.categories, seed)
        turns = Turns(order, len(sizes), "classes", batch_size=together, shard=shard)
        identity = {"photos": len(rows), "batch_size": batch_size, "seed": seed}
        identity |= {"classes": len(sizes), "photos_of_a_class": self.per_class}
        draw = Groups(rows, sizes, self.per_class, seed).draw
        return Batches(turns, draw, 1, max(len(rows) // batch_size, 1), identity)

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
            raise UserError(f"batch_size={batch_size} is not a multiple of sampler.per_class={k}: try {max(p, 2) * k}")
        if p < 2:
            raise UserError(
                f"batch_size={batch_size} is one class of sampler.per_class={k} photos, from which nothing is told "
                f"apart: choose at least {2 * k}"
            )
        if p % processes:
            raise UserError(
                f"batch_size={batch_size} is {p} classes of sampler.per_class={k} photos, which {processes} processes "
                f"cannot share equally: try {-(-p // processes) * processes * k}"
            )
        if p % self.categories and self.within is not None:
            raise UserError(
                f"sampler.categories={self.categories} does not divide the {p} classes of a batch "
                f"(batch_size={batch_size} / sampler.per_class={k}): choose a divisor of {p}"
            )
        if k > largest:
            raise UserError(
                f"sampler.per_class={k} is larger than every class: the largest of {len(sizes)} has {largest} photos, "
                f"so choose at most {largest}"
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
                f"sampler.within={self.within!r} is not a column of the data"
                f"{did_you_mean(self.within, list(items.columns))}"
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


@dataclasses.dataclass(frozen=True, eq=False)
class ByCategory:
    """The order of a pass over classes: category by category, cut in parts, which are shuffled."""

    category: np.ndarray
    """i64[C], of each class"""
    together: int
    """classes of a part: a batch takes as many parts as categories are to be in it"""
    seed: int

    def __call__(self, number: int) -> np.ndarray:
        """i64[C], all classes."""
        return _order_by_category(self, number)


def _alone(photos: np.ndarray, batch: int) -> np.ndarray:
    """i64[b, 1]: each photo is an item of its own."""
    return photos[:, None].copy()  # spare ones are written over bad ones, which must not change the order


@functools.lru_cache(maxsize=2)
def _order_by_category(by: ByCategory, number: int) -> np.ndarray:
    classes, rng = shuffled(len(by.category), by.seed, number), np.random.default_rng((by.seed, number, 1))
    rank = rng.permutation(by.category.max() + 1)
    classes = classes[np.argsort(rank[by.category[classes]], kind="stable")]
    parts, rest = np.split(classes, [len(classes) // by.together * by.together])
    parts = parts.reshape(-1, by.together)
    return np.concatenate([parts[rng.permutation(len(parts))].reshape(-1), rest])


@functools.lru_cache(maxsize=2)  # reading ahead straddles two epochs
def shuffled(n: int, seed: int, number: int) -> np.ndarray:
    """i64[n], the numbers below n in the order of a pass."""
    # not grain's shuffle, which takes seed + epoch: seed 1 would repeat seed 0, an epoch ahead; and 10 ms a batch
    return np.random.default_rng((seed, number)).permutation(n)
