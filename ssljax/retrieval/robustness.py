"""Robustness: how much of what clean photos find is still found when photos are disturbed.

The query may be disturbed (somebody's snapshot, looked for in a clean catalogue), the gallery (a market of sellers'
photos), or both. `ssljax.robustness` disturbs and embeds; here are who is looked for, the figures, and what got lost.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ssljax.fields import check_fields
from ssljax.retrieval.embeddings import BASELINE, Embeddings
from ssljax.retrieval.evaluate import Retrieval, relevance
from ssljax.retrieval.metrics import relevant_items, retrieval_figures
from ssljax.retrieval.topk import top_k
from ssljax.retrieval.vectors import normalise
from ssljax.types import UserError

Side = Literal["query", "gallery", "both"]
SIDES: tuple[Side, ...] = ("query", "gallery", "both")
FIGURES = ("cmc@1", "map@r")
MEAN = "mean of all"
CLEAN = "clean"
LOOKED_AT = 500  # lost queries that are compared with the whole gallery: enough to choose the worst from
CHUNK = 32  # of them at a time


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What is measured: figures of retrieval for each disturbance, at each strength, on each side."""

    strengths: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """How strong the disturbances are, growing; 1 is as much as is seen in shops."""
    sides: tuple[Side, ...] = SIDES
    """Which photos are disturbed. The gallery's are many: `--sides query` is quick."""
    items: int | None = None
    """How many queries, drawn by the seed; None for all. The gallery is always whole."""
    seed: int = 0
    """Decides which queries, and what happens to each photo: the same one, the same figures."""

    def __post_init__(self):
        check_fields(self)
        grows = all(a < b for a, b in zip((0, *self.strengths), self.strengths, strict=False))
        if not (self.strengths and grows and self.strengths[-1] <= 1):
            raise UserError(f"strengths={self.strengths} must grow from above 0 to at most 1: try 0.2 0.4 0.6 0.8 1.0")
        if not self.sides:
            raise UserError(f"sides=() disturbs nothing: choose of {', '.join(SIDES)}")
        if self.items is not None and self.items < 2:
            raise UserError(f"items={self.items} is too small: it must be at least 2")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed} must be at least 0 and below {2**32}")

    @property
    def medium(self) -> float:
        """The strength in the middle, at which examples are shown."""
        return self.strengths[(len(self.strengths) - 1) // 2]


class Vectors(NamedTuple):
    """Embeddings of the queries and of the gallery, not normalised."""

    queries: np.ndarray
    """f32[Q, D]"""
    gallery: np.ndarray
    """f32[n, D]"""


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """Who is looked for among whom; a query in the gallery does not find itself."""

    query_groups: np.ndarray
    """i32[Q]; items of the gallery that have a query's number are relevant to it"""
    gallery_groups: np.ndarray
    """i32[n], -1 = relevant to none"""
    own: np.ndarray | None = None
    """i32[Q], the gallery row that each query is itself; None if it is not in the gallery"""

    def figures(self, vectors: Vectors) -> dict[str, float]:
        """CMC@1 and MAP@R, as `metrics.per_query` defines them; raises UserError if no query has a relevant item."""
        queries, gallery = map(normalise, vectors)
        found = retrieval_figures(queries, self.query_groups, gallery, self.gallery_groups, own=self.own, ks=(1,))
        return {name: found[name] for name in FIGURES}

    def nearest(self, vectors: Vectors) -> np.ndarray:
        """i32[Q], the gallery row that each query finds first; -1 if there is none."""
        queries, gallery = map(normalise, vectors)
        return top_k(queries, gallery, 1, exclude=self.own)[0][:, 0]

    def is_hit(self, rows: np.ndarray) -> np.ndarray:
        """bool[Q], whether the gallery row i32[Q] found for each query is relevant to it."""
        return (rows >= 0) & (self.gallery_groups[rows] == self.query_groups) & (self.query_groups >= 0)


@dataclasses.dataclass(frozen=True)
class Curve:
    """A figure against the strength of a disturbance."""

    disturbance: str
    way: str
    """of embedding: student, teacher, raw pixels"""
    side: Side
    figure: str
    clean: float
    """at strength 0"""
    values: tuple[float, ...]
    """at each of the strengths"""

    @property
    def area(self) -> float | None:
        """The mean over the strengths, relative to clean: 1 is robust; None if the clean figure is 0.

        It is the area under the curve of figure / clean figure, each strength standing for an equal part of it.
        """
        return float(np.mean(self.values)) / self.clean if self.clean else None


@dataclasses.dataclass(frozen=True)
class Lost:
    """A query that found a relevant item when all was clean, and does not when it is disturbed."""

    query: int
    wrong: int  # the gallery row that it finds first now
    right: int  # the relevant one that it found first before
    rank: int  # of the right one now, from 2


def with_positives(retrieval: Retrieval, queries: Embeddings, gallery: Embeddings) -> np.ndarray:
    """i64[m], the rows of the queries that have a relevant item in the gallery; the two are of `retrieval`'s splits."""
    own = np.arange(len(queries)) if retrieval.searched == retrieval.split else None
    return np.flatnonzero(relevant_items(*relevance(retrieval.columns, queries, gallery), own))


def on_side(side: Side, clean: Vectors, disturbed: Vectors) -> Vectors:
    """What is searched for in what if one side, or both, are disturbed."""
    return Vectors(
        clean.queries if side == "gallery" else disturbed.queries,
        clean.gallery if side == "query" else disturbed.gallery,
    )


def lost(search: Search, clean: Vectors, disturbed: Vectors, many: int) -> list[Lost]:
    """Of the queries whose first find was relevant and is no longer, those from which it fell furthest, one a group; at
    most `many`."""
    before, after = search.nearest(clean), search.nearest(disturbed)
    rows = np.flatnonzero(search.is_hit(before) & ~search.is_hit(after))[:LOOKED_AT]
    queries, gallery = map(normalise, disturbed)
    worst: dict[int, Lost] = {}
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        for row, scores in zip(chunk.tolist(), queries[chunk] @ gallery.T, strict=True):
            if search.own is not None:
                scores[search.own[row]] = -np.inf
            rank = max(2, 1 + int((scores > scores[before[row]]).sum()))  # 2, if the wrong one is as near
            group = int(search.query_groups[row])
            if group not in worst or rank > worst[group].rank:
                worst[group] = Lost(row, int(after[row]), int(before[row]), rank)
    return sorted(worst.values(), key=lambda found: -found.rank)[:many]


def areas(curves: Sequence[Curve], side: Side, figure: str) -> dict[str, dict[str, float | None]]:
    """Way → disturbance → area, and under MEAN their mean, of one side and figure."""
    table: dict[str, dict[str, float | None]] = {}
    for curve in curves:
        if (curve.side, curve.figure) == (side, figure):
            table.setdefault(curve.way, {})[curve.disturbance] = curve.area
    for row in table.values():
        known = [value for value in row.values() if value is not None]
        row[MEAN] = float(np.mean(known)) if known else None
    return table


def summary(curves: Sequence[Curve], suite: Robustness) -> dict[str, dict[str, float | None]]:
    """Column → disturbance → value, of CMC@1: the student's areas on each side; on the first side, its value at medium
    strength, and that of raw pixels. The row CLEAN is without a disturbance."""
    table = {side: {CLEAN: None} | areas(curves, side, "cmc@1")["student"] for side in suite.sides}
    medium = suite.strengths.index(suite.medium)
    for way in ("student", BASELINE):
        shown = [c for c in curves if (c.way, c.side, c.figure) == (way, suite.sides[0], "cmc@1")]
        table[f"{way} at {suite.medium:g}"] = {CLEAN: shown[0].clean} | {c.disturbance: c.values[medium] for c in shown}
    return table
