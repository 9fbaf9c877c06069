"""Query expansion and database-side augmentation: a vector is averaged with those of its neighbours."""

import dataclasses

import numpy as np
from scipy import sparse

from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.rerank.step import check_neighbours
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


def expand(
    queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, scores: np.ndarray, *, alpha: float = 0.0
) -> np.ndarray:
    """f32[Q, D]: norm(q + sum over the neighbours g of max(q . g, 0)^alpha g).

    alpha = 0 is average query expansion (Chum et al. 2007, "Total Recall", section 4.2), where all count alike; a
    larger one trusts the nearest more (alpha query expansion: Radenović et al. 2018, "Fine-tuning CNN Image Retrieval
    with No Human Annotation", section 3.4, there 3). Without neighbours nothing changes.

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], of unit length.
      rows: i32[Q, k], the neighbours' rows in the gallery, from any index; -1 = none.
      scores: f32[Q, k], their cosines.
      alpha: 0 or more.
    """
    return weighted_sum(queries, gallery, rows, np.maximum(scores, 0) ** alpha)


def weighted_sum(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """f32[Q, D]: norm(q + sum over the neighbours, rows i32[Q, k] (-1 = none), of weights f32[Q, k] times g)."""
    count, k = rows.shape
    weights = np.where(rows >= 0, weights, 0).astype(np.float32)
    starts = np.arange(0, count * k + 1, k) if k else np.zeros(count + 1, int)
    weights = sparse.csr_array((weights.ravel(), np.maximum(rows, 0).ravel(), starts), shape=(count, len(gallery)))
    return normalise(queries + weights @ gallery)


@dataclasses.dataclass(frozen=True)
class QueryExpansion:
    """A query becomes the mean of itself and its `k` nearest, which finds what is like all of them: see `expand`.

    The gallery stays; a query that is in it is no neighbour of its own.
    """

    k: int = 3
    """Neighbours."""
    alpha: float = 0.0
    """Their weight is their cosine to this power: 0 is the plain mean, 3 is usual."""

    def __post_init__(self):
        _check_fields(self)

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        self.check(len(gallery), embed)
        return expand(queries, gallery, *top_k(queries, gallery, self.k, exclude=own), alpha=self.alpha), gallery

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        check_neighbours("QueryExpansion.k", self.k, items)


@dataclasses.dataclass(frozen=True)
class DatabaseAugmentation:
    """An item of the gallery becomes the mean of itself and its `k` nearest there: see `expand`.

    The queries stay, and a query that is in the gallery is looked for with its own vector. Done once, at indexing.
    Source: Turcot & Lowe 2009; with weights by similarity, Gordo et al. 2017, "End-to-end Learning of Deep Visual
    Representations for Image Retrieval", section 5.3 (theirs fall with the rank).
    """

    k: int = 3
    """Neighbours."""
    alpha: float = 0.0
    """Their weight is their cosine to this power."""

    def __post_init__(self):
        _check_fields(self)

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        self.check(len(gallery), embed)
        rows, scores = top_k(gallery, gallery, self.k, exclude=np.arange(len(gallery)))
        return queries, expand(gallery, gallery, rows, scores, alpha=self.alpha)

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        check_neighbours("DatabaseAugmentation.k", self.k, items)


def _check_fields(step: QueryExpansion | DatabaseAugmentation) -> None:
    name = type(step).__name__
    check_fields(step, name)
    if step.k < 1:
        raise UserError(f"{name}.k={step.k} must be at least 1: try 3")
    if step.alpha < 0:
        raise UserError(f"{name}.alpha={step.alpha} must be 0 or more: try 3.0")
