"""Post-processing: finds more with the same embeddings, by changing vectors or rankings after training.

Nothing here is trained, and nothing is measured.
"""

from typing import Protocol

import numpy as np

from ssljax.evaluation.rerank.answers import collapse, min2, top_items
from ssljax.evaluation.rerank.expansion import (
    DatabaseAugmentation,
    NeighbourhoodBlending,
    QueryExpansion,
    blend,
    expand,
)
from ssljax.evaluation.rerank.reciprocal import k_reciprocal
from ssljax.evaluation.rerank.whitening import PCAWhitening, Whitening, fit_whitening
from ssljax.types import Embed

__all__ = [
    "DatabaseAugmentation",
    "NeighbourhoodBlending",
    "PCAWhitening",
    "PostProcessing",
    "QueryExpansion",
    "Whitening",
    "blend",
    "collapse",
    "expand",
    "fit_whitening",
    "k_reciprocal",
    "min2",
    "top_items",
]


class PostProcessing(Protocol):
    """A step between the encoder and the search: vectors in, vectors of unit length out, then compared by cosine."""

    def __call__(
        self, queries: np.ndarray, gallery: np.ndarray, own: np.ndarray | None, embed: Embed
    ) -> tuple[np.ndarray, np.ndarray]:
        """The new queries f32[Q, d] and gallery f32[n, d]; raises UserError as `check`.

        Args:
          queries: f32[Q, D], of unit length.
          gallery: f32[n, D], of unit length.
          own: i32[Q], the gallery row that each query is itself; None if the queries are not in the gallery.
          embed: split name → embeddings, to fit the step to.
        """
        ...

    def check(self, items: int, embed: Embed) -> None:
        """Raises UserError, before training, if this cannot be done with a gallery of so many items."""
        ...
