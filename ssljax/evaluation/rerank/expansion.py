"""Steps that average a vector with its neighbours: query expansion, database-side augmentation and blending."""

import dataclasses

import numpy as np
from scipy import sparse

from ssljax.evaluation.nearest import Build, neighbours, top_k
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


def expand(
    queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, scores: np.ndarray, *, alpha: float = 0.0
) -> np.ndarray:
    """f32[Q, D]: norm(q + sum over the neighbours g of max(q . g, 0)^alpha g).

    With alpha = 0 this is average query expansion (Chum et al. 2007, "Total Recall", section 4.2), where all neighbours
    count alike; a larger alpha trusts the nearest more (alpha query expansion: Radenović et al. 2018, "Fine-tuning CNN
    Image Retrieval with No Human Annotation", section 3.4, there 3). Without neighbours nothing changes.

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], of unit length.
      rows: i32[Q, k], the neighbours' rows in the gallery, from any index; -1 = none.
      scores: f32[Q, k], their cosines.
      alpha: 0 or more.
    """
    return _weighted_sum(queries, gallery, rows, np.maximum(scores, 0) ** alpha)


def blend(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    k: int,
    threshold: float,
    own: np.ndarray | None = None,
    build: Build | None = None,
) -> np.ndarray:
    """f32[Q, D]: norm(q + sum of (q . g) g over those of the k - 1 nearest g with q . g >= threshold).

    Beside the vectors given and those returned, only the neighbours of a chunk of queries are in memory, and the index.

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], of unit length.
      k: neighbours, the query itself included.
      threshold: 0 or more.
      own: i32[Q], the gallery row that each query is itself, and no other neighbour of its own; None if there is none.
      build: builds an index of the gallery to find neighbours in; None compares each query with every item.
    """
    blended = np.empty(queries.shape, np.float32)
    for part, rows, scores in neighbours(queries, gallery, k - 1, own=own, build=build):
        blended[part] = _weighted_sum(queries[part], gallery, rows, np.where(scores >= threshold, scores, 0))
    return blended


def _weighted_sum(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """f32[Q, D]: norm(q + sum over the neighbours, rows i32[Q, k] (-1 = none), of weights f32[Q, k] times g)."""
    count, k = rows.shape
    weights = np.where(rows >= 0, weights, 0).astype(np.float32)
    starts = np.arange(0, count * k + 1, k) if k else np.zeros(count + 1, int)
    sums = (
        sparse.csr_array((weights.ravel(), np.maximum(rows, 0).ravel(), starts), shape=(count, len(gallery))) @ gallery
    )
    return normalise(queries + sums)


@dataclasses.dataclass(frozen=True)
class _Expansion:
    k: int = 3
    """Neighbours."""
    alpha: float = 0.0
    """Their weight is their cosine to this power: 0 is the plain mean, 3 is usual."""

    def __post_init__(self):
        check_fields(self, type(self).__name__, k=1, alpha=0)

    def check(self, items: int, embed: Embed) -> None:
        """See `PostProcessing`."""
        _check_neighbours(f"{type(self).__name__}.k", self.k, items)


@dataclasses.dataclass(frozen=True)
class QueryExpansion(_Expansion):
    """A query becomes the mean of itself and its `k` nearest, and so finds what is like all of them: see `expand`.

    The gallery does not change. A query that is in the gallery is not its own neighbour.
    """

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        self.check(len(gallery), embed)
        return expand(queries, gallery, *top_k(queries, gallery, self.k, exclude=own), alpha=self.alpha), gallery


@dataclasses.dataclass(frozen=True)
class DatabaseAugmentation(_Expansion):
    """An item of the gallery becomes the mean of itself and its `k` nearest there: see `expand`.

    Queries do not change; one that is in the gallery still searches with its own vector. Done once, at indexing.
    Source: Turcot & Lowe 2009; with weights by similarity, Gordo et al. 2017, "End-to-end Learning of Deep Visual
    Representations for Image Retrieval", section 5.3 (their weights fall with the rank).
    """

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PostProcessing`."""
        self.check(len(gallery), embed)
        rows, scores = top_k(gallery, gallery, self.k, exclude=np.arange(len(gallery)))
        return queries, expand(gallery, gallery, rows, scores, alpha=self.alpha)


@dataclasses.dataclass(frozen=True)
class NeighbourhoodBlending:
    """`blend`, once for each of `thresholds`: gallery with gallery, and queries with the gallery as it was before.

    An item without a neighbour above the threshold does not move. Queries in the gallery stay equal to their rows.
    Source: the first place of Shopee's Price Match Guarantee (Kaggle 2021), with three stages.
    """

    thresholds: tuple[float, ...]
    """Cosines from which on a neighbour counts, one a stage: choose them on a validation split."""
    k: int = 51
    """Neighbours, the item itself included."""

    def __post_init__(self):
        check_fields(self, "NeighbourhoodBlending", k=2)
        if min(self.thresholds, default=-1) < 0:
            raise UserError(
                f"NeighbourhoodBlending.thresholds={self.thresholds} must be cosines of 0 or more, one a stage: "
                "try (0.9, 0.9, 0.9)"
            )

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
        _check_neighbours("NeighbourhoodBlending.k", self.k - 1, items)


def _check_neighbours(field: str, k: int, items: int) -> None:
    """Raises UserError unless each of the items has k others."""
    if k >= items:
        raise UserError(f"{field}={k} is too large for a gallery of {items} items: it must be below that number")
