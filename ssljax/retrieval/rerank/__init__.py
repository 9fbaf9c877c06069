"""Post-processing: what can be done to embeddings and rankings after training, to find more."""

from ssljax.retrieval.rerank.blending import NeighbourhoodBlending, blend
from ssljax.retrieval.rerank.expansion import DatabaseAugmentation, QueryExpansion, expand
from ssljax.retrieval.rerank.multi_vector import collapse, top_items
from ssljax.retrieval.rerank.reciprocal import k_reciprocal
from ssljax.retrieval.rerank.step import PostProcessing
from ssljax.retrieval.rerank.thresholds import min2
from ssljax.retrieval.rerank.whitening import PCAWhitening, Whitening, fit_whitening

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
