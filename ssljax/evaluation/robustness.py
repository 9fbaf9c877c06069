"""Robustness: how much of what clean photos find is still found when photos are disturbed.

The query may be disturbed (somebody's snapshot, looked for in a clean catalogue), the gallery (a market of sellers'
photos), or both. `disturbed` disturbs and embeds; this module searches and counts what got lost.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ssljax.evaluation.embeddings import BASELINE
from ssljax.evaluation.ranking import Ranking, rank
from ssljax.types import UserError, check_fields

Side = Literal["query", "gallery", "both"]
SIDES: tuple[Side, ...] = ("query", "gallery", "both")
FIGURES = ("cmc@1", "map@r")
MEAN = "mean of these"
CLEAN = "clean"
LOOKED_AT = 500  # lost queries that are compared with the whole gallery: enough to choose the worst from


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


def on_side(side: Side, clean: Vectors, disturbed: Vectors) -> Vectors:
    """What is searched for in what if one side, or both, are disturbed."""
    return Vectors(
        clean.queries if side == "gallery" else disturbed.queries,
        clean.gallery if side == "query" else disturbed.gallery,
    )


def figures(ranking: Ranking) -> dict[str, float]:
    """CMC@1 and MAP@R, as `metrics.per_query` defines them; raises UserError if no query has a relevant item."""
    found = ranking.per_query(ks=(1,)).means()
    return {name: found[name] for name in FIGURES}


def lost(clean: Ranking, disturbed: Ranking, many: int) -> list[Lost]:
    """Of the queries whose first find was relevant and is no longer, those from which it fell furthest, one a group; at
    most `many`.

    The two rank the same; raises UserError if no query has a relevant item.
    """
    before, after = clean.first(), disturbed.first()
    fallen = np.flatnonzero(before.hit & ~after.hit)[:LOOKED_AT]
    worst: dict[int, Lost] = {}
    for m, (query, scores) in zip(fallen.tolist(), disturbed.scores(before.queries[fallen]), strict=True):
        right, group = int(before.first[m]), int(before.groups[m])
        now = max(2, rank(scores, right))  # a wrong one is before it, though by rounding they may look equal here
        if group not in worst or now > worst[group].rank:
            worst[group] = Lost(query, int(after.first[m]), right, now)
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


def summary(curves: Sequence[Curve], suite: Robustness, network: str = "student") -> dict[str, dict[str, float | None]]:
    """Column → disturbance → value, of CMC@1: a network's areas on each side; on the first side, its value at medium
    strength, and that of raw pixels. The row CLEAN is without a disturbance."""
    table: dict[str, dict[str, float | None]] = {
        side: {CLEAN: None} | areas(curves, side, "cmc@1")[network] for side in suite.sides
    }
    medium = suite.strengths.index(suite.medium)
    for way in (network, BASELINE):
        shown = [c for c in curves if (c.way, c.side, c.figure) == (way, suite.sides[0], "cmc@1")]
        table[f"{way} at {suite.medium:g}"] = {
            CLEAN: shown[0].clean,
            **{c.disturbance: c.values[medium] for c in shown},
        }
    return table
