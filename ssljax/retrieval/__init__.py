"""Retrieval: embeddings, what is found with them, how well, and the indexes that find it."""

from ssljax.retrieval.collection import Collection, Item, save_collection
from ssljax.retrieval.embeddings import Embeddings, Origin, raw_pixels
from ssljax.retrieval.evaluate import Retrieval, relevance
from ssljax.retrieval.few_shot import FewShot
from ssljax.retrieval.index import Builder, Exact, Faiss, Index, ScaNN, default_index, open_index
from ssljax.retrieval.knn import KNN
from ssljax.retrieval.linear_probe import LinearProbe
from ssljax.retrieval.pairs import PairSimilarities, pair_similarities
from ssljax.retrieval.report import write_report
from ssljax.retrieval.robustness import Robustness
from ssljax.retrieval.separation import Separation
from ssljax.retrieval.topk import top_k

__all__ = [
    "KNN",
    "Builder",
    "Collection",
    "Embeddings",
    "Exact",
    "Faiss",
    "FewShot",
    "Index",
    "Item",
    "LinearProbe",
    "Origin",
    "PairSimilarities",
    "Retrieval",
    "Robustness",
    "ScaNN",
    "Separation",
    "default_index",
    "open_index",
    "pair_similarities",
    "raw_pixels",
    "relevance",
    "save_collection",
    "top_k",
    "write_report",
]
