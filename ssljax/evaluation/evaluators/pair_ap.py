"""Average precision of pairs sorted all together: is one threshold right for all queries?

A search that ranks each query's answers well may still give one query's right answer a lower score than another's wrong
one. These figures matter to whoever must decide by score whether there is an answer at all.
"""

import dataclasses

import numpy as np

from ssljax.evaluation.evaluators.base import named
from ssljax.evaluation.metrics import pair_ap
from ssljax.evaluation.ranking import Ranking
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class PairAP:
    """Sorts the pairs of all queries by cosine. Figures are called `<split>/[<name>/]uap` and so on.

    - uap: average precision of the pairs of each query with its `k` nearest, over all true pairs, found or not.
    - gap: of each query's nearest alone, over the queries that have a relevant item: whether it and its score can be
      trusted (Weyand et al. 2020, "Google Landmarks Dataset v2").
    - true_pairs, queries: how many. Queries without a relevant item are not left out: their pairs are wrong ones.
    """

    relevant: str | tuple[str, ...] = "listing"
    """The column, or columns, that items of a true pair agree in; see `Retrieval.relevant`."""
    split: str = "test"
    """The split that the queries come from."""
    gallery: str | None = None
    """The split that is searched; None: the split of the queries, each left out of its own ranking."""
    k: int = 100
    """Pairs of each query that are sorted; true pairs beyond them count as never found."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "PairAP", k=1)

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or no pair is true."""
        ranking = self._ranking(embed)
        scores, true = ranking.nearest(self.k)
        positives, there = ranking.positives, np.isfinite(scores)  # a small gallery has fewer than k pairs a query
        figures = {
            "uap": pair_ap(scores[there], true[there], int(positives.sum())),
            "gap": pair_ap(scores[:, 0], true[:, 0], int((positives > 0).sum())),
            "true_pairs": int(positives.sum()),
            "queries": len(scores),
        }
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items have no true pair, whatever their vectors."""
        self._ranking(embed)

    def _ranking(self, embed: Embed) -> Ranking:
        ranking = Ranking.of(embed, self.relevant, self.split, self.gallery, field="PairAP.relevant")
        if not len(ranking.asked):
            raise UserError(f"PairAP.relevant={self.relevant!r}: no item of split {self.split!r} has a relevant one")
        return ranking
