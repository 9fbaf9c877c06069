"""How sure a mean over queries is: bootstrap intervals, and the comparison of two runs on the same queries.

The bootstrap draws groups of queries, not single queries. Photos of one listing are each other's answers: a photo that
is hard to match fails as a query and as the answer of its siblings, so their figures depend on each other. Drawing
single queries would treat them as independent and make intervals too narrow; where each query is alone in its group
(one snapshot for each catalogue photo) both are the same. The gallery and the embedding stay fixed: an interval says
nothing about other distractors or another seed of training.

SciPy's bootstrap and permutation_test draw single observations, not groups.
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
    """the probability of a difference at least as large, in either direction, if A and B are the same"""
    better: int
    worse: int
    """queries on which B scores above, and below, A"""
    queries: int
    groups: int


def intervals(
    found: PerQuery, *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The ends of each mean's interval: percentiles of the means over groups of queries drawn with replacement.

    Each mean is over all queries of the groups drawn: the cluster bootstrap (Davison and Hinkley 1997, "Bootstrap
    Methods and their Application"). With fewer than about 30 groups the interval is too narrow.

    Args:
      found: of at least one query.
      level: the share of such intervals that contain the mean over all queries like these, between 0 and 1.
      draws: how often as many groups as there are are drawn.
      seed: of the draws.

    Raises:
      UserError: there are fewer than two groups, or a setting is out of range.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level} must be between 0 and 1: try 0.95")
    if draws < 1:
        raise UserError(f"draws={draws} must be at least 1: try 1000")
    if len(np.unique(found.groups)) < 2:
        raise UserError(f"the {len(found)} queries are all in one group: an interval needs at least two groups")
    sizes, sums = _by_group(found.groups, np.stack(list(found.figures.values()), axis=1))
    rng = np.random.default_rng(seed)
    means = np.concatenate([w @ sums / (w @ sizes)[:, None] for w in _weights(rng, len(sizes), draws)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(found.figures, low, high, strict=True)}


def means_and_intervals(found: PerQuery, level: float | None) -> dict[str, float]:
    """`found.means()` and, called `cmc@1-low` and `cmc@1-high`, the ends of the intervals of this level.

    There are none without a level, or if all queries are in one group.
    """
    means = found.means()
    if level is None or len(np.unique(found.groups)) < 2:
        return means
    ends = {}
    for name, (low, high) in intervals(found, level=level).items():
        ends |= {f"{name}-low": low, f"{name}-high": high}
    return means | ends


def compare(
    a: PerQuery, b: PerQuery, figure: str, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Difference:
    """Whether run B differs from run A in the mean of `figure`, by the differences on each query.

    The interval is that of the differences (see `intervals`): hard queries are hard for both runs, so it is narrower
    than the runs' own intervals. The p-value is that of a permutation test of paired differences: if the runs were the
    same, the figures of a group could be swapped between them, which changes the sign of the sum of its differences.
    Signs are drawn at random, and the p-value is the share of draws whose sum is at least as large as the sum found.
    That sum counts as a draw (Phipson and Smyth 2010), so the p-value is at least 1 / (draws + 1).

    Args:
      a: of run A.
      b: of run B, over the same ids in the same order.
      figure: one of both's figures, such as "map@r".
      level: see `intervals`.
      draws: of the bootstrap, and of the permutation test.
      seed: of the draws.

    Raises:
      UserError: the queries differ, the figure is missing, or as `intervals`.
    """
    if len(a) != len(b) or (a.ids != b.ids).any():
        odd = sorted({str(x) for x in a.ids} ^ {str(x) for x in b.ids})
        which = f"only one of them has {odd[0]!r}" if odd else "they are in another order"
        raise UserError(f"two runs must be compared on the same queries: these have {len(a)} and {len(b)}, and {which}")
    for found in (a, b):
        if figure not in found.figures:
            raise UserError(f"figure={figure!r} is not a figure of both runs: choose from {', '.join(found.figures)}")
    each = b.figures[figure] - a.figures[figure]
    difference = PerQuery(a.ids, a.groups, {figure: each})
    low, high = intervals(difference, level=level, draws=draws, seed=seed)[figure]
    sums = _by_group(a.groups, each)[1]
    rng = np.random.default_rng(seed)
    # the tolerance keeps rounding from turning a tie into a miss
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


def _by_group(groups: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each group's number of queries i64[G], and the sums f64[G, ...] of the values f64[m, ...] of its queries."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, group, values)
    return sizes, sums


def _weights(rng: np.random.Generator, groups: int, draws: int) -> Iterator[np.ndarray]:
    """i64[d, G], how often each group comes in each draw; a chunk of the draws at a time."""
    for start in range(0, draws, step := max(1, WEIGHTS_AT_ONCE // groups)):
        yield rng.multinomial(groups, np.full(groups, 1 / groups), size=min(step, draws - start))
