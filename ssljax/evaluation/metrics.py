"""Retrieval metrics, named by their denominators, from the exact nearest neighbours.

Of a query, rel_i says whether the item at rank i (from 1) is relevant, P(i) is the share of relevant ones in the first
i, and R is the number of relevant items in the gallery, the query itself left out. A query with R = 0 has no right
answer: it is left out and counted.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.top_k import top_k_chunks
from ssljax.types import UserError


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
    """queries that have no relevant item, and are none of the m"""

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
    """The figures f64[Q] of each query, every one between 0 and 1.

    - cmc@k: 1 if any of the first k is relevant (metric learning's "recall@k").
    - p@k: hits in the first k, over k (for k > 1: p@1 is cmc@1).
    - r-precision: hits in the first R, over R.
    - map@r: sum over i <= R of P(i) rel_i, over R (Musgrave et al. 2020, "A Metric Learning Reality Check").
    - map@min(r,c): the same with min(R, c) for R, for each c of `caps`: what results from a search no deeper than c.
    - map@d-over-min(r,d): sum over i <= d of P(i) rel_i, over min(R, d), for each d of `depths`: the mAP@100 of Google
      Landmarks (Weyand et al. 2020, "Google Landmarks Dataset v2"), where hits beyond R still count.
    - recall@k-over-r: hits in the first k, over R, for each k of `recalls`: information retrieval's recall.

    Args:
      relevant: bool[Q, K], rel in the order of the ranking, K at least all of the ranks and R.
      positives: i[Q], R, at least 1.
      ks: ranks.
      caps: see above.
      depths: see above.
      recalls: see above.
    """
    hits = np.cumsum(relevant, axis=1, dtype=np.int32)
    ranks = np.arange(1, relevant.shape[1] + 1)
    row = np.arange(len(relevant))
    precision_sums = np.cumsum(np.where(relevant, hits / ranks[None], 0), axis=1)
    figures = {f"cmc@{k}": (hits[:, k - 1] > 0).astype(float) for k in ks}
    figures |= {f"p@{k}": hits[:, k - 1] / k for k in ks if k > 1}
    figures |= {f"recall@{k}-over-r": hits[:, k - 1] / positives for k in recalls}
    figures["r-precision"] = hits[row, positives - 1] / positives
    figures["map@r"] = precision_sums[row, positives - 1] / positives
    for cap in caps:
        depth = np.minimum(positives, cap)
        figures[f"map@min(r,{cap})"] = precision_sums[row, depth - 1] / depth
    for depth in depths:
        figures[f"map@{depth}-over-min(r,{depth})"] = precision_sums[:, depth - 1] / np.minimum(positives, depth)
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
    """What `per_query` defines, of the queries that have a relevant item; their ids are their rows, i64[m].

    Args:
      queries: f32[Q, D], of unit length.
      query_groups: i32[Q]; the items of a query's group are relevant to it; -1 = in no group.
      gallery: f32[n, D], of unit length.
      gallery_groups: i32[n].
      own: i32[Q], the gallery row that each query is itself, left out of its ranking; None if it is not in the gallery.
      ks: ranks.
      caps: see `per_query`.
      depths: see `per_query`.
      recalls: see `per_query`.

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


def retrieval_figures(
    queries: np.ndarray, query_groups: np.ndarray, gallery: np.ndarray, gallery_groups: np.ndarray, **settings
) -> dict[str, float]:
    """The means over the queries of what `per_query_figures` gives, which takes the same and raises the same."""
    return per_query_figures(queries, query_groups, gallery, gallery_groups, **settings).means()


def is_relevant(query_groups: np.ndarray, gallery_groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """bool[Q, K], whether the gallery rows i32[Q, K] found for each query are of its group.

    A row of -1, beyond the end of a small gallery, is not; nor is anything for a query in no group. Groups as above.
    """
    groups = query_groups[:, None]
    return (gallery_groups[rows] == groups) & (groups >= 0) & (rows >= 0)


def relevant_items(query_groups: np.ndarray, gallery_groups: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """R of each query, i64[Q]: how many gallery items share its group, itself left out. Arguments as above."""
    known, sizes = np.unique(gallery_groups[gallery_groups >= 0], return_counts=True)
    size = dict(zip(known.tolist(), (sizes - (own is not None)).tolist(), strict=True))
    return np.array([size.get(group, 0) for group in query_groups.tolist()], np.int64)
