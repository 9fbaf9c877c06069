"""Retrieval metrics, one function each and named by their denominators, and their values for every query of a search.

rel_i says whether the item at rank i (from 1) is relevant to a query, P(i) is the share of relevant items in the first
i ranks, and R is the number of relevant items in the gallery, the query itself left out. A query with R = 0 has no
right answer: it is left out and counted.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.nearest import top_k_chunks
from ssljax.types import UserError

# ---- of each query, from its ranking


def cmc(relevant: np.ndarray, k: int) -> np.ndarray:
    """CMC@k, metric learning's "recall@k": 1 if any of the first k is relevant, else 0.

    Args:
      relevant: bool[Q, K], rel in the order of the ranking.
      k: at most K.

    Returns:
      f64[Q].
    """
    return relevant[:, :k].any(axis=1).astype(float)


def precision(relevant: np.ndarray, k: int) -> np.ndarray:
    """P@k, f64[Q]: hits in the first k, over k. Arguments as for `cmc`."""
    return relevant[:, :k].sum(axis=1) / k


def recall(relevant: np.ndarray, positives: np.ndarray, k: int) -> np.ndarray:
    """Information retrieval's recall, f64[Q]: hits in the first k, over R, which is `positives` i[Q]."""
    return relevant[:, :k].sum(axis=1) / positives


def r_precision(relevant: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Hits in the first R, over R: f64[Q]. Needs K >= R, which is `positives` i[Q], at least 1."""
    return np.cumsum(relevant, axis=1)[np.arange(len(relevant)), positives - 1] / positives


def average_precision(relevant: np.ndarray, depth: int | np.ndarray, over: np.ndarray) -> np.ndarray:
    """Sum over i <= depth of P(i) rel_i, over `over` i[Q]: f64[Q]. `depth` is a rank, or i[Q]; at least 1.

    - MAP@R has R for both (Musgrave et al. 2020, "A Metric Learning Reality Check").
    - With min(R, c) for both it results from a search no deeper than c.
    - With d and min(R, d) it is the mAP@d of Google Landmarks (Weyand et al. 2020, "Google Landmarks Dataset v2"):
      hits beyond R still count.
    """
    precisions = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    sums = np.cumsum(np.where(relevant, precisions, 0), axis=1)
    return sums[np.arange(len(sums)), depth - 1] / over


def trapezoid_ap(ranks: np.ndarray, positives: int) -> float:
    """The average precision of one query's whole ranking as Oxford, Paris and Copydays define it.

    It is the area under precision and recall by trapezoids: the sum over the hits of (p0 + p1) / 2R. A hit at rank i
    with j hits before it is a step of 1 / R in recall; p0 = j / (i - 1) is the precision just before (1 if i = 1) and
    p1 = (j + 1) / i that after it (Philbin et al. 2007, as in the evaluation of Oxford 5k). It is below the usual
    average precision, whose steps have the height p1, wherever something wrong comes before a hit.

    Args:
      ranks: i[H], the rising ranks, from 1, of the relevant items that were found. Junk, which is neither right nor
        wrong, has no rank, and what follows it moves up.
      positives: R, at least 1 and H.
    """
    hits = np.arange(len(ranks))
    before = np.where(ranks > 1, hits / np.maximum(ranks - 1, 1), 1.0)
    return float((before + (hits + 1) / ranks).sum() / (2 * positives))


# ---- of all queries together


def pair_ap(scores: np.ndarray, true: np.ndarray, positives: int) -> float:
    """Sum over ranks i of P(i) true_i, over all `positives`, of pairs ranked by score.

    Of pairs with equal scores the wrong ones come first, so that ties cannot help. Infinite scores are allowed.
    Source: Perronnin et al. 2009, "A family of contextual measures of similarity between distributions with application
    to image retrieval", for uAP; GAP is the same with one pair a query.

    Args:
      scores: f[P], larger is more alike.
      true: bool[P].
      positives: how many pairs are true, including those that are not among the P.

    Raises:
      UserError: there is no true pair, fewer than among the P, or a score is NaN.
    """
    hits = int(np.sum(true))
    if positives < max(hits, 1):
        raise UserError(f"positives={positives} must be at least 1, and at least the {hits} true pairs that are ranked")
    if np.isnan(scores).any():
        raise UserError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN: they cannot be ranked")
    order = np.lexsort((true, -scores))
    ranks = np.flatnonzero(np.asarray(true)[order]) + 1
    return float((np.arange(1, hits + 1) / ranks).sum() / positives)


# ---- of a search


@dataclasses.dataclass(frozen=True, eq=False)
class PerQuery:
    """What each of m queries scored, all fields aligned."""

    ids: np.ndarray
    """[m], what tells the queries apart: their ids, or their rows"""
    groups: np.ndarray
    """i32[m]: queries of one group are each other's answers, so that their figures depend on each other"""
    figures: dict[str, np.ndarray]
    """f64[m], each between 0 and 1"""
    left_out: int = 0
    """queries without a relevant item, which are not among the m"""

    def __len__(self) -> int:
        return len(self.ids)

    def means(self) -> dict[str, float]:
        """The mean over the queries of each figure, with "queries" and "queries_left_out", which are counts."""
        means = {name: float(values.mean()) for name, values in self.figures.items()}
        return means | {"queries": len(self), "queries_left_out": self.left_out}

    def select(self, rows: np.ndarray) -> "PerQuery":
        """Some of the m queries: `rows` are i[k] or bool[m]. Those left out are not counted again."""
        figures = {name: values[rows] for name, values in self.figures.items()}
        return PerQuery(self.ids[rows], self.groups[rows], figures)


def per_query(
    relevant: np.ndarray,
    positives: np.ndarray,
    ks: Sequence[int] = (1, 5, 10),
    caps: Sequence[int] = (),
    depths: Sequence[int] = (),
    recalls: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """The figures f64[Q] of each query by their names, every one between 0 and 1.

    Args:
      relevant: bool[Q, K], rel in the order of the ranking, K at least all of the ranks and R.
      positives: i[Q], R, at least 1.
      ks: ranks of cmc@k and p@k; p@1 is cmc@1.
      caps: also map@min(r,c) for these c, the `average_precision` over min(R, c) of the first min(R, c).
      depths: also map@d-over-min(r,d) for these d: the mAP@d of Google Landmarks.
      recalls: also recall@k-over-r for these k.
    """
    figures = {f"cmc@{k}": cmc(relevant, k) for k in ks}
    figures |= {f"p@{k}": precision(relevant, k) for k in ks if k > 1}
    figures |= {f"recall@{k}-over-r": recall(relevant, positives, k) for k in recalls}
    figures["r-precision"] = r_precision(relevant, positives)
    figures["map@r"] = average_precision(relevant, positives, positives)
    for cap in caps:
        depth = np.minimum(positives, cap)
        figures[f"map@min(r,{cap})"] = average_precision(relevant, depth, depth)
    for depth in depths:
        over = np.minimum(positives, depth)
        figures[f"map@{depth}-over-min(r,{depth})"] = average_precision(relevant, depth, over)
    return figures


def per_query_figures(
    queries: np.ndarray,
    query_groups: np.ndarray,
    gallery: np.ndarray,
    gallery_groups: np.ndarray,
    *,
    own: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 10),
    caps: Sequence[int] = (),
    depths: Sequence[int] = (),
    recalls: Sequence[int] = (),
) -> PerQuery:
    """The figures of `per_query` for the queries that have a relevant item; their ids are their rows, i64[m].

    Args:
      queries: f32[Q, D], of unit length.
      query_groups: i32[Q]; the items of a query's group are relevant to it; -1 = in no group.
      gallery: f32[n, D], of unit length.
      gallery_groups: i32[n].
      own: i32[Q], the gallery row that each query is itself, left out of its ranking; None if it is not in the gallery.
      ks: see `per_query`, as for the others.
      caps: ranks.
      depths: ranks.
      recalls: ranks.

    Raises:
      UserError: no query has a relevant item.
    """
    positives = relevant_items(query_groups, gallery_groups, own)
    asked = np.flatnonzero(positives)
    if not len(asked):
        raise UserError(
            f"none of the {len(queries)} queries has a relevant item in the gallery: nothing can be measured"
        )
    depth = int(max(positives.max(), *ks, *depths, *recalls))
    figures: dict[str, np.ndarray] = {}
    for part, rows, _ in top_k_chunks(queries[asked], gallery, depth, exclude=None if own is None else own[asked]):
        query = asked[part]
        relevant = is_relevant(query_groups[query], gallery_groups, rows)
        for name, values in per_query(relevant, positives[query], ks, caps, depths, recalls).items():
            figures.setdefault(name, np.empty(len(asked)))[part] = values
    return PerQuery(asked, query_groups[asked], figures, left_out=len(queries) - len(asked))


def is_relevant(query_groups: np.ndarray, gallery_groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """bool[Q, K]: whether the gallery rows i32[Q, K] found for each query are of its group.

    A row of -1, beyond the end of a small gallery, is not; nor is any row for a query in no group.
    """
    groups = query_groups[:, None]
    return (gallery_groups[rows] == groups) & (groups >= 0) & (rows >= 0)


def relevant_items(query_groups: np.ndarray, gallery_groups: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """R of each query, i64[Q]: how many gallery items share its group, itself left out where `own` is given."""
    known, sizes = np.unique(gallery_groups[gallery_groups >= 0], return_counts=True)
    size = dict(zip(known.tolist(), (sizes - (own is not None)).tolist(), strict=True))
    return np.array([size.get(group, 0) for group in query_groups.tolist()], np.int64)
