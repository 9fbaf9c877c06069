"""Average precision of pairs sorted all together: is one threshold right for all queries?

A search that ranks each query's answers well may still give one query's right answer a lower score than another's wrong
one. Whoever must decide by score whether there is an answer at all needs these figures.
"""

import dataclasses

import numpy as np

from ssljax.evaluation.evaluators.retrieval import named, relevance
from ssljax.evaluation.metrics import is_relevant, relevant_items
from ssljax.evaluation.top_k import top_k_chunks
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


def pair_ap(scores: np.ndarray, true: np.ndarray, positives: int) -> float:
    """Sum over ranks i of P(i) true_i, over all `positives`, of pairs ranked by score.

    Of pairs with equal scores the wrong ones come first, so that ties cannot help. Infinite scores are allowed.
    Source: Perronnin et al. 2009, "A family of contextual measures of similarity between distributions with application
    to image retrieval", for uAP; GAP is the same with one pair a query.

    Args:
      scores: f[P], larger is more alike.
      true: bool[P].
      positives: how many pairs are true, with those that are not among the P.

    Raises:
      UserError: there is no true pair, fewer than among the P, or a score is NaN.
    """
    hits = int(np.sum(true))
    if positives < max(hits, 1):
        raise UserError(f"positives={positives} must be at least 1, and at least the {hits} true pairs that are ranked")
    if np.isnan(scores).any():
        raise UserError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN: they cannot be ranked")
    order = np.lexsort((true, -scores))
    ranks = np.flatnonzero(np.asarray(true)[order]) + 1
    return float((np.arange(1, hits + 1) / ranks).sum() / positives)


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
    """Pairs of each query that are sorted: true ones beyond count as never found."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "PairAP")
        if self.k < 1:
            raise UserError(f"PairAP.k={self.k} must be at least 1: try 100")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError if a column is missing or no pair is true."""
        query_groups, gallery_groups, own, positives = self._truth(embed)
        queries, gallery = (normalise(embed(split).vectors) for split in (self.split, self.searched))
        scores = np.empty((len(queries), self.k), np.float32)
        true = np.empty((len(queries), self.k), bool)
        for part, rows, part_scores in top_k_chunks(queries, gallery, self.k, exclude=own):
            scores[part], true[part] = part_scores, is_relevant(query_groups[part], gallery_groups, rows)
        there = np.isfinite(scores)  # beyond the end of a small gallery there are no pairs
        figures = {
            "uap": pair_ap(scores[there], true[there], int(positives.sum())),
            "gap": pair_ap(scores[:, 0], true[:, 0], int((positives > 0).sum())),
            "true_pairs": int(positives.sum()),
            "queries": len(queries),
        }
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if these items have no true pair, whatever their vectors: to be known before training."""
        self._truth(embed)

    @property
    def searched(self) -> str:
        """The split that is searched."""
        return self.split if self.gallery is None else self.gallery

    def _truth(self, embed: Embed) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
        """Groups of the queries and the gallery, each query's own row in it, and its number of relevant items."""
        queries, gallery = embed(self.split), embed(self.searched)
        query_groups, gallery_groups = relevance(self.relevant, queries, gallery, field="PairAP.relevant")
        own = np.arange(len(queries)) if self.searched == self.split else None
        positives = relevant_items(query_groups, gallery_groups, own)
        if not positives.any():
            raise UserError(f"PairAP.relevant={self.relevant!r}: no item of split {self.split!r} has a relevant one")
        return query_groups, gallery_groups, own, positives
