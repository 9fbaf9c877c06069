"""Retrieval metrics, named by their denominators, from the exact nearest neighbours.

Of a query, rel_i says whether the item at rank i (from 1) is relevant, and R is the number of relevant items in the
gallery, the query itself left out. A query with R = 0 has no right answer: it is left out and counted.
"""

from collections.abc import Sequence

import numpy as np

from ssljax.retrieval.topk import top_k_chunks
from ssljax.types import UserError


def per_query(
    relevant: np.ndarray, positives: np.ndarray, ks: Sequence[int] = (1, 5, 10), caps: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """The figures f64[Q] of each query, every one between 0 and 1.

    - cmc@k: 1 if any of the first k is relevant (metric learning's "recall@k"; hits / R is another number).
    - p@k: hits in the first k, over k (for k > 1: p@1 is cmc@1).
    - r-precision: hits in the first R, over R.
    - map@r: sum over i <= R of P(i) rel_i, over R (Musgrave et al. 2020, "A Metric Learning Reality Check").
    - map@min(r,c): the same with min(R, c) for R, for each c of `caps`: what results from a search no deeper than c.

    Args:
      relevant: bool[Q, K], rel in the order of the ranking, K at least all of `ks` and R.
      positives: i[Q], R, at least 1.
      ks: ranks.
      caps: see above.
    """
    hits = np.cumsum(relevant, axis=1, dtype=np.int32)
    ranks = np.arange(1, relevant.shape[1] + 1)
    row = np.arange(len(relevant))
    precision_sums = np.cumsum(np.where(relevant, hits / ranks[None], 0), axis=1)
    figures = {f"cmc@{k}": (hits[:, k - 1] > 0).astype(float) for k in ks}
    figures |= {f"p@{k}": hits[:, k - 1] / k for k in ks if k > 1}
    figures["r-precision"] = hits[row, positives - 1] / positives
    figures["map@r"] = precision_sums[row, positives - 1] / positives
    for cap in caps:
        depth = np.minimum(positives, cap)
        figures[f"map@min(r,{cap})"] = precision_sums[row, depth - 1] / depth
    return figures


def retrieval_figures(
    queries: np.ndarray,
    query_groups: np.ndarray,
    gallery: np.ndarray,
    gallery_groups: np.ndarray,
    *,
    own: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 10),
    caps: Sequence[int] = (),
) -> dict[str, float]:
    """Means over the queries of what `per_query` defines, with "queries" and "queries_left_out", which are counts.

    Args:
      queries: f32[Q, D], of unit length.
      query_groups: i32[Q]; the items of a query's group are relevant to it; -1 = in no group.
      gallery: f32[n, D], of unit length.
      gallery_groups: i32[n].
      own: i32[Q], the gallery row that each query is itself, left out of its ranking; None if it is not in the gallery.
      ks: ranks.
      caps: see `per_query`.

    Raises:
      UserError: no query has a relevant item.
    """
    known, sizes = np.unique(gallery_groups[gallery_groups >= 0], return_counts=True)
    size = dict(zip(known.tolist(), (sizes - (own is not None)).tolist(), strict=True))
    positives = np.array([size.get(group, 0) for group in query_groups.tolist()], np.int64)
    asked = np.flatnonzero(positives)
    if not len(asked):
        raise UserError(
            f"none of the {len(queries)} queries has a relevant item in the gallery: nothing can be measured"
        )
    depth = int(max(positives.max(), *ks))
    totals: dict[str, float] = {}
    for part, rows, _ in top_k_chunks(queries[asked], gallery, depth, exclude=None if own is None else own[asked]):
        query = asked[part]
        # a row of -1, beyond the end of a small gallery, is not relevant
        relevant = (gallery_groups[rows] == query_groups[query][:, None]) & (rows >= 0)
        for name, values in per_query(relevant, positives[query], ks, caps).items():
            totals[name] = totals.get(name, 0.0) + float(values.sum())
    means = {name: total / len(asked) for name, total in totals.items()}
    return means | {"queries": len(asked), "queries_left_out": len(queries) - len(asked)}
