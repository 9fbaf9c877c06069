"""Classes: P classes with K photos each, for losses that compare the items of a batch by their labels."""

import dataclasses
import functools

import numpy as np

from ssljax.data.columns import encode
from ssljax.data.items import Items
from ssljax.data.samplers.base import Batches, Groups, shuffled
from ssljax.data.text import did_you_mean
from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Classes:
    """P classes x K photos a batch (Hermans et al. 2017, section 2), P = batch_size / K.

    Classes come in turn, whatever their sizes: each once, in a random order, before any comes again (but for those left
    over when fewer than P remain). So rare classes are seen as often as common ones, which evens out what is learned of
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
        check_fields(self, "sampler", per_class=2, categories=1, least=1)

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        if items.label is None:
            raise UserError("sampler=Classes() needs labels, and the data has none: name the column in data.label")
        rows = np.argsort(items.label, kind="stable")
        rows = rows[items.label[rows] >= 0]
        if not len(rows):
            raise UserError(f"sampler=Classes() needs labels, and all {len(items)} of the train split are missing")
        sizes = np.unique(items.label[rows], return_counts=True)[1]
        self._check(sizes, batch_size, shard[1])
        rows, sizes = rows[np.repeat(sizes, sizes) >= self.least], sizes[sizes >= self.least]
        order = None
        if self.within is not None:
            part = batch_size // self.per_class // self.categories
            order = ByCategory(self._category(items, rows, sizes), part, seed)
        return Batches(
            Groups(rows, sizes, self.per_class, seed).draw,
            len(sizes),
            "classes",
            {"photos": len(rows), "classes": len(sizes), "photos_of_a_class": self.per_class},
            batch_size=batch_size,
            seed=seed,
            shard=shard,
            per_item=self.per_class,
            order=order,
            epoch=len(rows),
        )

    def _check(self, sizes: np.ndarray, batch_size: int, processes: int) -> None:
        """Raises UserError if a batch does not fit classes of these sizes."""
        k, p, largest = self.per_class, batch_size // self.per_class, sizes.max()
        kept = sizes[sizes >= self.least]
        singles = np.count_nonzero(kept == 1)
        batch = f"batch_size={batch_size} is {p} classes of sampler.per_class={k} photos, "
        if batch_size % k:
            raise UserError(f"batch_size={batch_size} is not a multiple of sampler.per_class={k}: try {max(p, 2) * k}")
        if p < 2:
            raise UserError(
                f"batch_size={batch_size} is one class of sampler.per_class={k} photos, from which nothing is told "
                f"apart: choose at least {2 * k}"
            )
        if p % processes:
            least = -(-p // processes) * processes * k
            raise UserError(f"{batch}which {processes} processes cannot share equally: try {least}")
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
        if singles:
            raise UserError(
                f"sampler=Classes() needs classes of two photos or more, and {singles} of {len(sizes)} have one: leave "
                "them out by sampler.least=2"
            )
        if p > len(kept):
            raise UserError(
                f"{batch}and the train split has {len(kept)} classes of sampler.least={self.least} photos or more: "
                f"choose at most {len(kept) * k}"
            )

    def _category(self, items: Items, rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """i64[C], the category of each class: the commonest among its photos; of equal ones, the first by the alphabet.

        rows: i64[n], the photos, class by class.
        """
        assert self.within is not None
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
        classes = np.repeat(np.arange(len(sizes)), sizes)
        (classes, category), counts = np.unique(np.stack([classes, codes + 1]), axis=1, return_counts=True)
        counts[category == 0] = 0  # blank: the category of a class only where there is no other
        best = np.lexsort((category, -counts, classes))
        return category[best[np.unique(classes, return_index=True)[1]]]


@dataclasses.dataclass(frozen=True, eq=False)
class ByCategory:
    """The order of a pass over classes: category by category, cut into parts, which are shuffled."""

    category: np.ndarray
    """i64[C], of each class"""
    part: int
    """classes of a part; a batch takes as many parts as it has categories"""
    seed: int

    @functools.lru_cache(maxsize=2)  # noqa: B019 - reading ahead straddles two passes
    def __call__(self, number: int) -> np.ndarray:
        """i64[C], all classes."""
        classes, rng = shuffled(len(self.category), self.seed, number), np.random.default_rng((self.seed, number, 1))
        rank = rng.permutation(self.category.max() + 1)
        classes = classes[np.argsort(rank[self.category[classes]], kind="stable")]
        parts, rest = np.split(classes, [len(classes) // self.part * self.part])
        return np.concatenate([rng.permutation(parts.reshape(-1, self.part)).reshape(-1), rest])
