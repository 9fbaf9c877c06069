"""Mines triplets by several attributes: an anchor, and a positive that is more like it than the negative is.

Candidates are grouped in levels by the share of attributes that they match with the anchor (all, most, some, none), so
that the order in a triplet follows the order of the levels ("Visually Similar Products Retrieval for Shopsy", arXiv
2210.04560, whose cut-offs and numbers are not public).

Nothing compares all pairs. Photos with equal attributes form one tuple. Each distinct tuple is compared with a pool of
others: for every subset of the attributes some that agree with it there, and some of all. The time grows with the
number of photos, plus distinct tuples x pool.
"""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from ssljax.data.atomic_files import replace_file
from ssljax.data.items import Items
from ssljax.data.text import did_you_mean
from ssljax.types import UserError, check_fields

ROUNDING = 1e-6  # of a share in float32


@dataclasses.dataclass(frozen=True)
class AttributeTriplets:
    """Which triplets are mined: levels of likeness to the anchor, and how many are drawn.

    Level 1 is the likest. Triplets of one attribute: `AttributeTriplets(("articleType",), cuts=(1.0, 0.0),
    draws=(6,))`. Thresholds on the IoU of tags, with a gap between: `AttributeTriplets(likeness="iou",
    cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0))`.
    """

    attributes: tuple[str, ...] = ()
    """Names among data.attributes; () for all of them."""
    weights: tuple[float, ...] = ()
    """How much each attribute counts; () for all alike."""
    likeness: Literal["share", "iou"] = "share"
    """share: the weight of the attributes that match, by that of those which both photos have, so that a missing value
    neither matches nor differs. iou: by that of the tags which either has (a tag is a value of an attribute)."""
    cuts: tuple[float, ...] = (1.0, 0.5, 0.01, 0.0)
    """The least likeness of each level, the highest first; what is below the last is in no level. The default's levels
    are all, most, some and none."""
    draws: tuple[int, ...] = (1, 1, 1, 1, 1, 1)
    """Triplets of each anchor for each pair of levels, the positive's and the negative's: (1, 2), (1, 3), (1, 4),
    (2, 3), (2, 4), (3, 4) with four levels."""
    pool: int = 256
    """With how many tuples each distinct one is compared, half of them drawn from all. With at most pool / 2 distinct
    tuples these are all there are; with more, a level with few candidates may be missed."""
    seed: int = 0
    """Decides on what is drawn."""

    def __post_init__(self):
        check_fields(self, "sampler.mining", seed=0)
        at = "sampler.mining"
        if len(self.cuts) < 2 or not all(a > b for a, b in itertools.pairwise((1 + ROUNDING, *self.cuts, -ROUNDING))):
            raise UserError(f"{at}.cuts={self.cuts} must be two shares or more, from 1 to 0, each below the one before")
        pairs = len(self.cuts) * (len(self.cuts) - 1) // 2
        if len(self.draws) != pairs or min(self.draws) < 0 or not any(self.draws):
            raise UserError(
                f"{at}.draws={self.draws} must be {pairs} numbers, one for each pair of the {len(self.cuts)} levels, 0 "
                "or more each and not all 0"
            )
        if self.weights and min(self.weights) <= 0:
            raise UserError(f"{at}.weights={self.weights} must be above 0: leave out of attributes what does not count")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The levels, from 0, of positive and negative of each of an anchor's T triplets."""
        every = itertools.combinations(range(len(self.cuts)), 2)
        return [pair for pair, count in zip(every, self.draws, strict=True) for _ in range(count)]

    def mine(
        self,
        items: Items,
        *,
        path: str | Path | None = None,
        embeddings: np.ndarray | None = None,
        among: int = 8,
        again: int = 0,
        chunk: int = 2**14,
    ) -> np.ndarray:
        """The triplets of every photo as anchor, for `Triplets`.

        A positive is drawn from the photos of its level that the pool has, each as likely as the others, and so is a
        negative; with embeddings a negative is the nearest to the anchor of `among` drawn ones.

        Args:
            items: n photos with attributes.
            path: the .npy file that the triplets go to, chunk by chunk; None keeps them in memory.
            embeddings: f32[n, D], of the same photos; compared by their cosines.
            among: how many negatives are drawn for each with embeddings.
            again: another number draws others from the same candidates.
            chunk: anchors at a time; the result does not depend on it.

        Returns:
            i32[n, T, 2], the rows of positive and negative for the levels of `pairs`; -1 where one of the levels has no
            candidate.

        Raises:
            UserError: if attributes are not there or have no two values, the pool is too small for them, embeddings do
                not fit, or not one triplet is found for a pair of levels.
        """
        if embeddings is not None and (embeddings.ndim != 2 or len(embeddings) != len(items)):
            raise UserError(f"embeddings of shape {embeddings.shape} must be f32[{len(items)}, D], one a photo")
        tuples = Tuples.of(self._columns(items))
        shape = (len(items), len(self.pairs), 2)
        if path is None:
            return self._fill(np.empty(shape, np.int32), tuples, embeddings, among, again, chunk)

        def write(file: BinaryIO) -> None:
            mined = np.lib.format.open_memmap(file.name, "w+", np.int32, shape)
            self._fill(mined, tuples, embeddings, among, again, chunk)
            mined.flush()

        replace_file(Path(path), write)
        return np.load(path, mmap_mode="r")

    def likeness_of(self, items: Items, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """f32[m] in [0, 1], of the photos at rows i[m] to those at rows i[m]; NaN where there is nothing to compare."""
        return self._likeness(self._columns(items), first, second)

    def levels_of(self, likeness: np.ndarray) -> np.ndarray:
        """i64, the level of each, from 0; the number of levels for what is in none."""
        cuts = np.asarray(self.cuts, np.float32)
        return np.sum([~(likeness >= cut - ROUNDING) for cut in cuts], axis=0)

    def _columns(self, items: Items) -> np.ndarray:
        """i32[A, n], the attributes' values; raises UserError if they are not there or cannot tell photos apart."""
        if items.attributes is None:
            raise UserError("triplets need attributes, and the data has none: name their columns in data.attributes")
        names = self.attributes or items.attribute_names
        for name in names:
            if name not in items.attribute_names:
                there = did_you_mean(name, items.attribute_names)
                raise UserError(f"sampler.mining.attributes: {name!r} is not among data.attributes{there}")
        if self.weights and len(self.weights) != len(names):
            raise UserError(f"sampler.mining.weights={self.weights} must be {len(names)} numbers, one an attribute")
        least = 2 * (2 ** len(names) - 1)
        if self.pool < least:
            raise UserError(
                f"sampler.mining.pool={self.pool} is too small for {len(names)} attributes: it must be at least {least}"
            )
        numbers = [items.attribute_names.index(name) for name in names]
        for name, number in zip(names, numbers, strict=True):
            column = items.attributes[:, number]
            present = column[column >= 0]
            if not len(present):
                raise UserError(f"sampler.mining.attributes: {name!r} is missing in all of the {len(items)} photos")
            if (present == present[0]).all():
                value = items.attribute_values[number][present[0]]
                raise UserError(
                    f"sampler.mining.attributes: {name!r} has one value, {value!r}, in the {len(present)} of "
                    f"{len(items)} photos that have any: leave it out"
                )
        return np.ascontiguousarray(items.attributes.T[numbers])

    def _likeness(self, columns: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        matched = compared = np.zeros((), np.float32)
        for column, weight in zip(columns, np.asarray(self.weights or np.ones(len(columns)), np.float32), strict=True):
            one, other = column[first], column[second]
            has_one, has_other = one >= 0, other >= 0
            match = weight * (has_one & (one == other))
            matched = matched + match
            if self.likeness == "share":
                compared = compared + weight * (has_one & has_other)
            else:
                compared = compared + weight * has_one + weight * has_other - match
        with np.errstate(invalid="ignore"):
            return matched / compared

    def _lists(self, tuples: "Tuples") -> list[tuple["Agreeing", int]]:
        """For each subset of the attributes, the tuples that agree in it, and how many of them a pool has."""
        attributes = range(len(tuples.columns))
        subsets = [list(s) for size in attributes for s in itertools.combinations(attributes, size + 1)]
        each = self.pool // 2 // len(subsets)
        lists = [(Agreeing.of(tuples.columns[subset]), each) for subset in subsets]
        return [*lists, (Agreeing.of(tuples.columns[:0]), self.pool - each * len(subsets))]

    def _fill(
        self, mined: np.ndarray, tuples: "Tuples", embeddings: np.ndarray | None, among: int, again: int, chunk: int
    ) -> np.ndarray:
        """Writes the triplets into i32[n, T, 2], a chunk of anchors after the other; raises UserError as `mine`."""
        lists = self._lists(tuples)
        reached = np.zeros(len(self.cuts), np.int64)  # anchors with candidates in each level
        found = np.zeros(len(self.pairs), np.int64)
        for start in range(0, len(mined), chunk):
            places = np.arange(start, min(start + chunk, len(mined)))
            anchors, pools = tuples.photos[places], self._pools(tuples, lists, places)
            for t, (near, far) in enumerate(self.pairs):
                bits = functools.partial(_random, self.seed, 1 + again, anchors, t)
                positive, negative = pools.draw(near, bits(0)), pools.draw(far, bits(1))
                if embeddings is not None:
                    more = [pools.draw(far, bits(k)) for k in range(2, among + 1)]
                    negative = _most_similar(embeddings, anchors, [negative, *more])
                exists = (positive >= 0) & (negative >= 0)
                mined[anchors, t] = np.where(exists[:, None], np.stack([positive, negative], axis=1), -1)
                found[t] += exists.sum()
            reached += pools.reached
        for (near, far), count in zip(self.pairs, found, strict=True):
            if not count:
                raise UserError(
                    f"sampler.mining: no triplet has its positive in level {near + 1} and its negative in level "
                    f"{far + 1} of cuts={self.cuts}, in which {reached[near]} and {reached[far]} of {len(mined)} "
                    "photos have others: change the cuts, or set the draws of the two levels to 0"
                )
        return mined

    def _pools(self, tuples: "Tuples", lists: list[tuple["Agreeing", int]], places: np.ndarray) -> "Pools":
        """The pools of the tuples of some anchors, i64[p] places in `tuples.photos`."""
        numbers = np.unique(tuples.number[places])
        drawn = [
            agreeing.draw(numbers, _random(self.seed, 0, numbers[:, None], k, np.arange(count)))
            for k, (agreeing, count) in enumerate(lists)
        ]
        pool = np.concatenate(drawn, axis=1)
        level = self.levels_of(self._likeness(tuples.columns, numbers[:, None], pool))
        level[pool < 0] = len(self.cuts)
        return Pools.of(tuples, places, numbers, np.maximum(pool, 0), level, len(self.cuts))


class Tuples(NamedTuple):
    """The distinct combinations of values, G of them, and which photos have them."""

    columns: np.ndarray  # i32[A, G], -1 = missing
    photos: np.ndarray  # i64[n], rows, tuple by tuple
    number: np.ndarray  # i64[n], the tuple of each of `photos`
    starts: np.ndarray  # i64[G + 1], where each begins in `photos`

    @classmethod
    def of(cls, columns: np.ndarray) -> "Tuples":
        """Those of columns i32[A, n]."""
        _, first, number, counts = np.unique(
            _codes(columns), return_index=True, return_inverse=True, return_counts=True
        )
        photos = np.argsort(number, kind="stable")
        return cls(columns[:, first], photos, number[photos], np.concatenate([[0], np.cumsum(counts)]))


class Agreeing(NamedTuple):
    """An inverted list: for each tuple, those that agree with it in some attributes, all of which they have."""

    order: np.ndarray  # i32[G], tuples; last those that lack an attribute
    start: np.ndarray  # i32[G], where in `order` those begin that agree with a tuple
    length: np.ndarray  # i32[G], how many they are, with the tuple itself; 0 for one that lacks an attribute

    @classmethod
    def of(cls, columns: np.ndarray) -> "Agreeing":
        """Those that agree in columns i32[a, G]."""
        start, length = np.zeros((2, columns.shape[1]), np.int32)
        codes, has = _codes(columns), (columns >= 0).all(axis=0)
        _, number, counts = np.unique(codes[has], return_inverse=True, return_counts=True)
        start[has], length[has] = (np.cumsum(counts) - counts)[number], counts[number]
        return cls(np.lexsort((codes, ~has)).astype(np.int32), start, length)

    def draw(self, tuples: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """i64[m, k], for tuples i64[m] as many that agree as there are bits u64[m, k], or all there are and then -1."""
        k, count = np.arange(bits.shape[1]), bits.shape[1]
        start, length = self.start[tuples][:, None], self.length[tuples][:, None]
        # One out of each of k equal parts.
        place = np.where(length <= count, k, ((k + _fraction(bits)) * length / count).astype(np.int64))
        return np.where(k < length, self.order[np.minimum(start + place, len(self.order) - 1)], -1)


class Pools(NamedTuple):
    """The candidates of some anchors: the photos of the tuples in their tuples' pools, level by level."""

    tuples: Tuples
    places: np.ndarray  # i64[p], the anchors, in tuples.photos
    candidates: np.ndarray  # i64[m * k], tuples, pool by pool and level by level
    before: np.ndarray  # i64[m * k + 1], how many photos come before each
    begin: np.ndarray  # i64[L + 1, p], how many come before each level of an anchor

    @classmethod
    def of(
        cls,
        tuples: Tuples,
        places: np.ndarray,
        numbers: np.ndarray,
        pool: np.ndarray,
        level: np.ndarray,
        levels: int,
    ) -> "Pools":
        """Those of pools i64[m, k] of the tuples `numbers` i64[m], where the tuples are in levels i64[m, k]."""
        size = np.diff(tuples.starts)
        ordered = np.sort(level * len(size) + pool, axis=1)
        candidates = ordered % len(size)
        photos = size[candidates] - (candidates == numbers[:, None])  # an anchor is no candidate of its own
        photos[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0  # drawn from several lists
        before = np.concatenate([[0], np.cumsum(photos)])
        rows = np.arange(len(pool)) * pool.shape[1]
        begin = np.stack([before[rows + (ordered < at * len(size)).sum(axis=1)] for at in range(levels + 1)])
        own = np.searchsorted(numbers, tuples.number[places])
        return cls(tuples, places, candidates.reshape(-1), before, begin[:, own])

    @property
    def reached(self) -> np.ndarray:
        """i64[L], how many anchors have candidates in each level."""
        return (np.diff(self.begin, axis=0) > 0).sum(axis=1)

    def draw(self, level: int, bits: np.ndarray) -> np.ndarray:
        """i64[p], for each anchor the row of a photo of a level, drawn by bits u64[p]; -1 where it has none."""
        first, count = self.begin[level], self.begin[level + 1] - self.begin[level]
        place = first + (_fraction(bits) * count).astype(np.int64)
        k = np.minimum(np.searchsorted(self.before, place, side="right"), len(self.candidates)) - 1
        candidate = self.candidates[k]
        photo = self.tuples.starts[candidate] + place - self.before[k]
        photo += (candidate == self.tuples.number[self.places]) & (photo >= self.places)  # past the anchor itself
        return np.where(count > 0, self.tuples.photos[np.minimum(photo, len(self.tuples.photos) - 1)], -1)


def _codes(columns: np.ndarray) -> np.ndarray:
    """i64[n], equal where the values i32[a, n] are equal in all columns."""
    codes, count = np.zeros(columns.shape[1], np.int64), 1
    for column in columns:
        values = int(column.max(initial=-1)) + 2
        if count * values >= 2**63:
            distinct, codes = np.unique(codes, return_inverse=True)
            count = len(distinct)
        codes, count = codes * values + column + 1, count * values
    return codes


def _most_similar(embeddings: np.ndarray, anchors: np.ndarray, candidates: list[np.ndarray]) -> np.ndarray:
    """i64[p], of the candidates i64[p] the one with the largest cosine with each anchor; -1 where they are -1.

    One whose embedding is 0, as its photo cannot be read, is taken only if there is no other.
    """

    def unit(rows: np.ndarray) -> np.ndarray:
        z = np.asarray(embeddings[rows], np.float32)
        norm = np.linalg.norm(z, axis=1, keepdims=True)
        return np.divide(z, norm, out=np.full_like(z, np.nan), where=norm > 0)

    z, best, highest = unit(anchors), candidates[0], np.full(len(anchors), -np.inf)
    for rows in candidates:
        cosine = (z * unit(rows)).sum(axis=1)
        best, highest = np.where(cosine > highest, rows, best), np.fmax(cosine, highest)
    return best


def _random(*keys: int | np.ndarray) -> np.ndarray:
    """u64, random bits of the keys alone: each is folded in by SplitMix64's step (Steele et al. 2014, section 3)."""
    bits = np.zeros(1, np.uint64)
    for key in keys:
        bits = bits + (np.atleast_1d(key).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def _fraction(bits: np.ndarray) -> np.ndarray:
    """f64 in [0, 1)"""
    return (bits >> np.uint64(11)) * 2.0**-53
