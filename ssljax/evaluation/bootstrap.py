"""How far a mean over queries would move with other queries: bootstrap intervals, and two runs on the same queries.

What is drawn are groups of queries, not queries. Photos of one listing are each other's answers: a photo that is hard
to match fails as a query and as the answer of its siblings, so that their figures come and go together. Drawing single
queries would take them for independent and give intervals that are too narrow; where each query is of its own group
(catalogue photos looked up by one snapshot each) both are the same. The gallery and the embedding stay as they are: an
interval says nothing of other distractors, and nothing of another seed of training.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ssljax.evaluation.metrics import PerQuery
from ssljax.types import UserError

WEIGHTS_AT_ONCE = 2**22  # 32 MiB of int64


@dataclasses.dataclass(frozen=True)
class Difference:
    """Run B's mean less run A's, of one figure over the same queries."""

    mean: float
    low: float
    high: float
    """ends of the bootstrap's interval"""
    p_value: float
    """how often a difference at least as large, in either direction, comes about if A and B are the same"""
    better: int
    worse: int
    """queries on which B is above, and below, A"""
    queries: int
    groups: int


def intervals(
    found: PerQuery, *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The ends of each mean's interval: percentiles of the means over groups of queries drawn with replacement.

    A mean is over the queries that are drawn, however many their groups have: the cluster bootstrap (Davison and
    Hinkley 1997, "Bootstrap Methods and their Application"). With few groups, below about 30, it is too narrow.

    Args:
      found: of at least one query.
      level: the share of such intervals that are to hold the mean over all queries like these, between 0 and 1.
      draws: of as many groups as there are.
      seed: decides which.

    Raises:
      UserError: there are not two groups, or a setting is out of its range.
    """
    _check(found, level, draws)
    sizes, sums = _by_group(found.groups, np.stack(list(found.figures.values()), axis=1))
    rng = np.random.default_rng(seed)
    means = np.concatenate([w @ sums / (w @ sizes)[:, None] for w in _weights(rng, len(sizes), draws)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(found.figures, low, high, strict=True)}


def compare(
    a: PerQuery, b: PerQuery, figure: str, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Difference:
    """Whether run B differs from run A in the mean of `figure`, by the differences on each query.

    The interval is `intervals`' of the differences: hard queries are hard for both, so that it is narrower than the two
    runs' own. The p-value is of the permutation test of paired differences: if the runs were the same, a group's
    figures could as well be swapped between them, which changes the sign of the sum of its differences. Signs are
    drawn, a draw counts if its sum is as large as the one found or larger, and the one found counts as a draw (Phipson
    and Smyth 2010), so that it is at least 1 / (draws + 1).

    Args:
      a: of run A.
      b: of run B, over the same ids in the same order.
      figure: one of both's figures, such as "map@r".
      level: see `intervals`.
      draws: of the bootstrap, and of the permutation test.
      seed: decides which.

    Raises:
      UserError: the queries differ, the figure is missing, or as `intervals`.
    """
    if len(a) != len(b) or (a.ids != b.ids).any():
        odd = sorted({str(x) for x in a.ids} ^ {str(x) for x in b.ids})
        which = f"{odd[0]!r} is asked in one only" if odd else "they are in another order"
        raise UserError(f"two runs must be compared on the same queries: these have {len(a)} and {len(b)}, and {which}")
    for found in (a, b):
        if figure not in found.figures:
            raise UserError(f"figure={figure!r} is not among those of both runs: choose of {', '.join(found.figures)}")
    each = b.figures[figure] - a.figures[figure]
    difference = PerQuery(a.ids, a.groups, {figure: each})
    low, high = intervals(difference, level=level, draws=draws, seed=seed)[figure]
    sums = _by_group(a.groups, each)[1]
    rng = np.random.default_rng(seed)
    # signs of all groups are twice a draw of 0 and 1 less 1; rounding must not make a tie a miss
    found, as_large = abs(sums.sum()), 0
    for start in range(0, draws, step := max(1, WEIGHTS_AT_ONCE // len(sums))):
        signs = 2 * rng.integers(0, 2, (min(step, draws - start), len(sums)), np.int8) - 1
        as_large += int((np.abs(signs @ sums) >= found - 1e-9).sum())
    return Difference(
        mean=float(each.mean()),
        low=low,
        high=high,
        p_value=(1 + as_large) / (1 + draws),
        better=int((each > 0).sum()),
        worse=int((each < 0).sum()),
        queries=len(each),
        groups=len(sums),
    )


def _check(found: PerQuery, level: float, draws: int) -> None:
    if not 0 < level < 1:
        raise UserError(f"level={level} must be between 0 and 1: try 0.95")
    if draws < 1:
        raise UserError(f"draws={draws} must be at least 1: try 1000")
    if len(np.unique(found.groups)) < 2:
        raise UserError(f"the {len(found)} queries are of one group: an interval needs two groups or more")


def _by_group(groups: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each group's number of queries i64[G], and the sums f64[G, ...] of the values f64[m, ...] of its queries."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, group, values)
    return sizes, sums


def _weights(rng: np.random.Generator, groups: int, draws: int) -> Iterator[np.ndarray]:
    """i64[d, G], how often each group is drawn in each draw; all draws, a chunk at a time."""
    for start in range(0, draws, step := max(1, WEIGHTS_AT_ONCE // groups)):
        yield rng.multinomial(groups, np.full(groups, 1 / groups), size=min(step, draws - start))
