"""Retrieval: embeddings, what is found with them, how well, and the indexes that find it."""

from ssljax.retrieval.attributes import Attributes, predict_attribute
from ssljax.retrieval.embeddings import Embeddings, raw_pixels
from ssljax.retrieval.evaluate import Retrieval, relevance
from ssljax.retrieval.few_shot import FewShot
from ssljax.retrieval.index import Builder, Exact, Index, ScaNN, default_index, open_index
from ssljax.retrieval.knn import KNN
from ssljax.retrieval.linear_probe import LinearProbe
from ssljax.retrieval.pairs import PairSimilarities, pair_similarities
from ssljax.retrieval.report import write_report
from ssljax.retrieval.rerank import DatabaseAugmentation, NeighbourhoodBlending, QueryExpansion, Whitening
from ssljax.retrieval.robustness import Robustness
from ssljax.retrieval.separation import Separation
from ssljax.retrieval.topk import top_k
from ssljax.retrieval.words import Words, predict_words

__all__ = [
    "KNN",
    "Attributes",
    "Builder",
    "DatabaseAugmentation",
    "Embeddings",
    "Exact",
    "FewShot",
    "Index",
    "LinearProbe",
    "NeighbourhoodBlending",
    "PairSimilarities",
    "QueryExpansion",
    "Retrieval",
    "Robustness",
    "ScaNN",
    "Separation",
    "Whitening",
    "Words",
    "default_index",
    "open_index",
    "pair_similarities",
    "predict_attribute",
    "predict_words",
    "raw_pixels",
    "relevance",
    "top_k",
    "write_report",
]
