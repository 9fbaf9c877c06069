"""Evaluation: embeddings of splits, and the figures of retrieval and of classifiers on them.

`metrics` has a function for each metric, `evaluators/` a file for each protocol, and `rerank/` post-processing. Nothing
here trains, serves or draws pages.
"""

from ssljax.evaluation.bootstrap import Difference, compare, intervals
from ssljax.evaluation.embeddings import Embeddings, Origin, raw_pixels
from ssljax.evaluation.evaluators.attributes import Attributes, predict_attribute
from ssljax.evaluation.evaluators.copydays import Copydays
from ssljax.evaluation.evaluators.few_shot import FewShot
from ssljax.evaluation.evaluators.ground_truth import GroundTruth, read_ground_truth
from ssljax.evaluation.evaluators.knn import KNN
from ssljax.evaluation.evaluators.landmarks import landmarks_map
from ssljax.evaluation.evaluators.linear_probe import LinearProbe
from ssljax.evaluation.evaluators.pair_ap import PairAP
from ssljax.evaluation.evaluators.photo_to_title import PhotoToTitle
from ssljax.evaluation.evaluators.retrieval import Retrieval
from ssljax.evaluation.evaluators.revisited import Revisited
from ssljax.evaluation.evaluators.separation import PairSimilarities, Separation, pair_similarities
from ssljax.evaluation.evaluators.shopee import ShopeeF1
from ssljax.evaluation.evaluators.title_words import TitleWords, predict_words
from ssljax.evaluation.metrics import PerQuery, pair_ap, per_query_figures, trapezoid_ap
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.rerank import DatabaseAugmentation, NeighbourhoodBlending, QueryExpansion, Whitening
from ssljax.evaluation.robustness import Robustness
from ssljax.evaluation.saved import SavedEmbeddings
from ssljax.evaluation.tfidf import TFIDF, embed_by_tfidf

__all__ = [
    "KNN",
    "TFIDF",
    "Attributes",
    "Copydays",
    "DatabaseAugmentation",
    "Difference",
    "Embeddings",
    "FewShot",
    "GroundTruth",
    "LinearProbe",
    "NeighbourhoodBlending",
    "Origin",
    "PairAP",
    "PairSimilarities",
    "PerQuery",
    "PhotoToTitle",
    "QueryExpansion",
    "Retrieval",
    "Revisited",
    "Robustness",
    "SavedEmbeddings",
    "Separation",
    "ShopeeF1",
    "TitleWords",
    "Whitening",
    "compare",
    "embed_by_tfidf",
    "intervals",
    "landmarks_map",
    "pair_ap",
    "pair_similarities",
    "per_query_figures",
    "predict_attribute",
    "predict_words",
    "raw_pixels",
    "read_ground_truth",
    "relevance",
    "top_k",
    "trapezoid_ap",
]
