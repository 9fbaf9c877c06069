"""How much nearer items of one group are than items of two: similarities of random pairs."""

import dataclasses

import numpy as np

from ssljax.types import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class PairSimilarities:
    """Cosines of pairs of items, drawn with replacement, each pair as likely as any other."""

    within: np.ndarray
    """f32[pairs], of two items of one group"""
    between: np.ndarray
    """f32[pairs], of items of two groups"""

    @property
    def auc(self) -> float:
        """How often a pair within is nearer than a pair between; ties count half. 0.5 is chance, 1 is apart."""
        between = np.sort(self.between)
        below, up_to = (np.searchsorted(between, self.within, side) for side in ("left", "right"))
        return float((below + up_to).mean() / (2 * len(between)))


def pair_similarities(
    vectors: np.ndarray, groups: np.ndarray, *, pairs: int = 20_000, seed: int = 0
) -> PairSimilarities:
    """Draws `pairs` pairs within groups and as many between them.

    Args:
      vectors: f32[n, D], of unit length.
      groups: i32[n]; -1 = in no group, and in no pair.
      pairs: how many of each.
      seed: decides which.

    Raises:
      UserError: no group has two items, or there are not two groups.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    groups, n = groups[order], len(order)
    start, stop = (np.searchsorted(groups, groups, side) for side in ("left", "right"))
    size = stop - start
    if not n or size.max() < 2 or size[0] == n:
        raise UserError("similarities within and between groups need a group of two items and another group")
    first = rng.choice(n, pairs, p=(size - 1) / (size - 1).sum())
    other = start[first] + rng.integers(size[first] - 1)
    other += other >= first  # of its group, and not itself
    within = np.einsum("nd,nd->n", vectors[order[first]], vectors[order[other]])
    first = rng.choice(n, pairs, p=(n - size) / (n - size).sum())
    other = rng.integers(n - size[first])
    other += size[first] * (other >= start[first])  # its group, which is one stretch of the order, left out
    between = np.einsum("nd,nd->n", vectors[order[first]], vectors[order[other]])
    return PairSimilarities(within, between)
