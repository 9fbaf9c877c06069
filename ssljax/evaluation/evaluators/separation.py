"""How far apart groups are, as an evaluator: nearer within a listing than between listings?"""

import dataclasses

import numpy as np

from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.evaluators.retrieval import named, relevance
from ssljax.evaluation.pair_similarities import pair_similarities
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Separation:
    """Cosines of random pairs within groups and between them. Figures are called `<split>/[<name>/]auc` and so on.

    - auc: how often a pair within is nearer than a pair between; .5 is chance, 1 is apart.
    - within, between: the mean cosines.
    """

    relevant: str = "listing"
    """The column that items of a group agree in, case and outer blanks ignored; a blank is in no group."""
    split: str = "test"
    """The split whose items are compared."""
    pairs: int = 20_000
    """Pairs of each kind."""
    seed: int = 0
    """Decides which."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "Separation")
        if self.pairs < 1 or self.seed < 0:
            raise UserError(f"Separation.pairs={self.pairs} must be at least 1, and seed={self.seed} at least 0")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or there are no such pairs."""
        embeddings = embed(self.split)
        found = pair_similarities(
            normalise(embeddings.vectors), self._groups(embeddings), pairs=self.pairs, seed=self.seed
        )
        figures = {"auc": found.auc, "within": float(found.within.mean()), "between": float(found.between.mean())}
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items have no such pairs, whatever their vectors: to be known before training."""
        groups = self._groups(embed(self.split))
        try:
            pair_similarities(np.ones((len(groups), 1), np.float32), groups, pairs=1)
        except UserError as error:
            raise UserError(f"Separation.relevant={self.relevant!r} on split {self.split!r}: {error}") from None

    def _groups(self, embeddings: Embeddings) -> np.ndarray:
        return relevance((self.relevant,), embeddings, field="Separation.relevant")[0]
