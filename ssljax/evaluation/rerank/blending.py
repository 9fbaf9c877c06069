"""Iterative neighbourhood blending: items move towards those that are surely like them."""

import dataclasses

import numpy as np

from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.rerank.expansion import weighted_sum
from ssljax.evaluation.rerank.step import check_neighbours
from ssljax.types import Embed, UserError, check_fields


def blend(
    queries: np.ndarray, gallery: np.ndarray, *, k: int, threshold: float, own: np.ndarray | None = None
) -> np.ndarray:
    """f32[Q, D]: norm(q + sum of (q . g) g over those of the k - 1 nearest g with q . g >= threshold).

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], of unit length.
      k: neighbours, the query itself included.
      threshold: 0 or more.
      own: i32[Q], the gallery row that each query is itself, and no other neighbour of its own; None if there is none.
    """
    rows, scores = top_k(queries, gallery, k - 1, exclude=own)
    return weighted_sum(queries, gallery, rows, np.where(scores >= threshold, scores, 0))


@dataclasses.dataclass(frozen=True)
class NeighbourhoodBlending:
    """`blend`, once for each of `thresholds`: gallery with gallery, and queries with the gallery as it was before.

    An item without a neighbour beyond the threshold stays where it is. Queries in the gallery stay equal to their rows
    there.
    Source: the first place of Shopee's Price Match Guarantee (Kaggle 2021), with three stages.
    """

    thresholds: tuple[float, ...]
    """Cosines from which on a neighbour counts, one a stage: choose them on a validation split."""
    k: int = 51
    """Neighbours, the item itself included."""

    def __post_init__(self):
        check_fields(self, "NeighbourhoodBlending")
        if min(self.thresholds, default=-1) < 0:
            raise UserError(
                f"NeighbourhoodBlending.thresholds={self.thresholds} must be cosines of 0 or more, one a stage: "
                "try (0.9, 0.9, 0.9)"
            )
        if self.k < 2:
            raise UserError(f"NeighbourhoodBlending.k={self.k} must be at least 2, the item itself and another: try 51")

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        self.check(len(gallery), embed)
        for threshold in self.thresholds:
            blended = blend(gallery, gallery, k=self.k, threshold=threshold, own=np.arange(len(gallery)))
            queries = blend(queries, gallery, k=self.k, threshold=threshold, own=own)
            gallery = blended
        return queries, gallery

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        check_neighbours("NeighbourhoodBlending.k", self.k - 1, items)
