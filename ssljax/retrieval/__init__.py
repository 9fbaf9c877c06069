"""Retrieval: embeddings, what is found with them, how well, and the indexes that find it."""

from ssljax.retrieval.advice import index_advice
from ssljax.retrieval.attributes import Attributes, predict_attribute
from ssljax.retrieval.bootstrap import Difference, compare, intervals
from ssljax.retrieval.collection import Collection, Item, save_collection
from ssljax.retrieval.copydays import Copydays
from ssljax.retrieval.embeddings import Embeddings, Origin, raw_pixels
from ssljax.retrieval.evaluate import Retrieval, relevance
from ssljax.retrieval.few_shot import FewShot
from ssljax.retrieval.ground_truth import GroundTruth, read_ground_truth
from ssljax.retrieval.index import Builder, Exact, Faiss, Index, ScaNN, default_index, open_index
from ssljax.retrieval.knn import KNN
from ssljax.retrieval.landmarks import landmarks_map
from ssljax.retrieval.linear_probe import LinearProbe
from ssljax.retrieval.metrics import PerQuery, per_query_figures, retrieval_figures
from ssljax.retrieval.pair_ap import PairAP, pair_ap
from ssljax.retrieval.pairs import PairSimilarities, pair_similarities
from ssljax.retrieval.report import write_report
from ssljax.retrieval.rerank import DatabaseAugmentation, NeighbourhoodBlending, QueryExpansion, Whitening
from ssljax.retrieval.revisited import Revisited
from ssljax.retrieval.robustness import Robustness
from ssljax.retrieval.separation import Separation
from ssljax.retrieval.shopee import ShopeeF1
from ssljax.retrieval.topk import top_k
from ssljax.retrieval.trapezoid import trapezoid_ap
from ssljax.retrieval.words import Words, predict_words

__all__ = [
    "KNN",
    "Attributes",
    "Builder",
    "Collection",
    "Copydays",
    "DatabaseAugmentation",
    "Difference",
    "Embeddings",
    "Exact",
    "Faiss",
    "FewShot",
    "GroundTruth",
    "Index",
    "Item",
    "LinearProbe",
    "NeighbourhoodBlending",
    "Origin",
    "PairAP",
    "PairSimilarities",
    "PerQuery",
    "QueryExpansion",
    "Retrieval",
    "Revisited",
    "Robustness",
    "ScaNN",
    "Separation",
    "ShopeeF1",
    "Whitening",
    "Words",
    "compare",
    "default_index",
    "index_advice",
    "intervals",
    "landmarks_map",
    "open_index",
    "pair_ap",
    "pair_similarities",
    "per_query_figures",
    "predict_attribute",
    "predict_words",
    "raw_pixels",
    "read_ground_truth",
    "relevance",
    "retrieval_figures",
    "save_collection",
    "top_k",
    "trapezoid_ap",
    "write_report",
]
