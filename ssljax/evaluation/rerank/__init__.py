"""Post-processing: what can be done to embeddings and rankings after training, to find more."""

from ssljax.evaluation.rerank.blending import NeighbourhoodBlending, blend
from ssljax.evaluation.rerank.expansion import DatabaseAugmentation, QueryExpansion, expand
from ssljax.evaluation.rerank.multi_vector import collapse, top_items
from ssljax.evaluation.rerank.reciprocal import k_reciprocal
from ssljax.evaluation.rerank.step import PostProcessing
from ssljax.evaluation.rerank.thresholds import min2
from ssljax.evaluation.rerank.whitening import PCAWhitening, Whitening, fit_whitening

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
