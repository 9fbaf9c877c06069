"""How far apart groups are: are items of one group nearer to each other than items of two?"""

import dataclasses

import numpy as np

from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.base import named
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True, eq=False)
class PairSimilarities:
    """Cosines of pairs of items, drawn with replacement, each pair as likely as any other."""

    within: np.ndarray
    """f32[pairs], of two items of one group"""
    between: np.ndarray
    """f32[pairs], of items of two groups"""

    @property
    def auc(self) -> float:
        """How often a pair within is nearer than a pair between; ties count half. 0.5 is chance, 1 perfect."""
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
      seed: of the draws.

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


@dataclasses.dataclass(frozen=True)
class Separation:
    """Cosines of random pairs within groups and between them. Figures are called `<split>/[<name>/]auc` and so on.

    - auc: how often a pair within is nearer than a pair between; .5 is chance, 1 is perfect separation.
    - within, between: the mean cosines.
    """

    relevant: str = "listing"
    """The column that items of a group agree in, case and outer blanks ignored; a blank is in no group."""
    split: str = "test"
    """The split whose items are compared."""
    pairs: int = 20_000
    """Pairs of each kind."""
    seed: int = 0
    """Of the draws."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Separation", pairs=1, seed=0)

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or there are no such pairs."""
        embeddings = embed(self.split)
        found = pair_similarities(
            normalise(embeddings.vectors), self._groups(embeddings), pairs=self.pairs, seed=self.seed
        )
        figures = {"auc": found.auc, "within": float(found.within.mean()), "between": float(found.between.mean())}
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items have no such pairs, whatever their vectors."""
        groups = self._groups(embed(self.split))
        try:
            pair_similarities(np.ones((len(groups), 1), np.float32), groups, pairs=1)
        except UserError as error:
            raise UserError(f"Separation.relevant={self.relevant!r} on split {self.split!r}: {error}") from None

    def _groups(self, embeddings: Embeddings) -> np.ndarray:
        return relevance((self.relevant,), embeddings, field="Separation.relevant")[0]
