"""k-reciprocal re-ranking: two items are near if they share neighbours that have them among their neighbours too.

Source: Zhong et al. 2017, "Re-ranking Person Re-identification with k-reciprocal Encoding", equations 1 to 12; names in
the comments are theirs. All sets are sparse rows; only the scores of a chunk of queries are dense.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from ssljax.evaluation.nearest import SCORES_AT_ONCE, top_k
from ssljax.types import Array, UserError

Sparse = sparse.csr_array
ENCODED_AT_ONCE = 1024  # rows
LARGEST_CHUNK = 256


def k_reciprocal(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    own: np.ndarray | None = None,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` gallery rows with the largest (1 - weight) J + weight (1 + cosine) / 2 with each query, exactly.

    J, between 0 and 1, is the overlap (Jaccard similarity) of the k-reciprocal encodings of the two: 1 - J is d_J of
    equation 10. Queries outside the gallery do not affect each other: a query is one of the k1 nearest of a gallery
    item if at most k1 - 1 items of the gallery are nearer to that item. With `own` this is the published algorithm, on
    the gallery alone.

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], of unit length.
      k: how many, at least 1. If there are fewer, the remaining rows are -1 and scores -inf.
      own: i32[Q], the gallery row that each query is itself, which is left out; None if queries are not in the gallery.
      k1: neighbours that must be mutual, below n.
      k2: neighbours, the item itself included, whose encodings are averaged; 1 to k1.
      weight: of the original similarity, lambda in equation 12; 0 to 1.

    Raises:
      UserError: k1, k2 or weight is out of its range.
    """
    n = len(gallery)
    if not 1 <= k1 < n:
        raise UserError(f"k1={k1} must be at least 1 and below {n}, the number of items in the gallery")
    if not 1 <= k2 <= k1:
        raise UserError(f"k2={k2} must be at least 1 and at most k1={k1}")
    if not 0 <= weight <= 1:
        raise UserError(f"weight={weight} must be between 0 (only common neighbours) and 1 (only the cosine)")
    itself = np.arange(n, dtype=np.int32)
    others, cosines = top_k(gallery, gallery, k1, exclude=itself)
    nearest = np.concatenate([itself[:, None], others], axis=1)  # an item is its own nearest
    wide, narrow = (_mutual(nearest[:, : size + 1]) for size in (k1, round(k1 / 2)))
    raw = _encoded(wide, narrow, gallery, gallery)
    encodings = _mean(raw, nearest[:, :k2])
    if own is None:
        found, scores = top_k(queries, gallery, k1)
        mutual = _members(found, n, scores >= cosines[found, -1])
        own_part = _encoded(mutual, narrow, queries, gallery)
        asked = (own_part + (k2 - 1) * _mean(raw, found[:, : k2 - 1]) if k2 > 1 else own_part) / k2
    else:
        asked = encodings[own]
    return _ranked(queries, gallery, sparse.csr_array(asked), encodings, k, own, weight)


def _members(rows: np.ndarray, n: int, which: np.ndarray | None = None) -> Sparse:
    """f32[Q, n], 1 for each of `rows` i32[Q, k] (that `which` bool[Q, k] chooses), else 0."""
    values = np.ones(rows.shape, np.float32) if which is None else which.astype(np.float32)
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    members = sparse.csr_array((values.ravel(), rows.ravel(), starts), shape=(len(rows), n))
    members.eliminate_zeros()
    return members


def _mutual(nearest: np.ndarray) -> Sparse:
    """R(p, k), equation 2, for all p of the gallery: those of N(p, k), i32[n, k], that have p among theirs."""
    neighbours = _members(nearest, len(nearest))
    return neighbours.multiply(neighbours.T).tocsr()


def _mean(encodings: Sparse, nearest: np.ndarray) -> Sparse:
    """Local query expansion, equation 11: f32[Q, n], the mean of the encodings of the rows `nearest` i32[Q, k]."""
    return sparse.csr_array(_members(nearest, len(encodings.indptr) - 1) @ encodings / np.float32(nearest.shape[1]))


def _encoded(wide: Sparse, narrow: Sparse, vectors: np.ndarray, gallery: np.ndarray) -> Sparse:
    """V, equations 5 to 7: f32[Q, n], exp(-d) for the gallery items of R*(p, k1), else 0, with d = 1 - cosine.

    Args:
      wide: f32[Q, n], R(p, k1).
      narrow: f32[n, n], R(q, k1 / 2).
      vectors: f32[Q, D].
      gallery: f32[n, D].
    """
    sizes, parts = np.diff(narrow.indptr), []
    for start in range(0, max(len(vectors), 1), ENCODED_AT_ONCE):  # once for no queries at all
        chunk = wide[start : start + ENCODED_AT_ONCE]
        # |R(p, k1) and R(q, k1 / 2)| for each q in R(p, k1): with enough in common, q's neighbours are added
        common = chunk.multiply(chunk @ narrow.T).tocsr()
        common.data = (common.data >= 2 / 3 * sizes[common.indices]).astype(np.float32)
        expanded = (chunk + common @ narrow).tocoo()
        cosines = np.einsum("md,md->m", vectors[start + expanded.row], gallery[expanded.col])
        kept = expanded.data > 0
        weights = np.exp(cosines - 1)[kept]
        parts.append(sparse.csr_array((weights, (expanded.row[kept], expanded.col[kept])), shape=expanded.shape))
    return sparse.csr_array(sparse.vstack(parts))


def _ranked(
    queries: np.ndarray,
    gallery: np.ndarray,
    asked: Sparse,
    encodings: Sparse,
    k: int,
    own: np.ndarray | None,
    weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """As `k_reciprocal`, by the encodings of queries f32[Q, n] and gallery f32[n, n]."""
    n, columns = len(gallery), encodings.tocsc()
    count, found = len(queries), min(k, n)
    asked_sums, sums = (np.asarray(e.sum(axis=1), np.float32) for e in (asked, encodings))
    rows, scores = np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32)
    excluded = np.full(count, n, np.int32) if own is None else np.asarray(own, np.int32)
    chunk = min(LARGEST_CHUNK, max(1, SCORES_AT_ONCE // n))
    on_device = jax.device_put(gallery)
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        shared = _shared(asked[part], columns, n)
        # sum of the larger ones = sum of both less that of the smaller ones
        overlap = shared / np.maximum(asked_sums[part, None] + sums[None] - shared, np.finfo(np.float32).tiny)
        # the last chunk is padded, so that one compiled program serves all
        size = len(overlap)
        padding = ((0, chunk - size), (0, 0))
        given = np.pad(queries[part], padding), np.pad(overlap, padding), np.pad(excluded[part], padding[0])
        best = _nearest(*jax.device_put(given), on_device, np.float32(weight), found)
        best_scores, best_rows = (np.asarray(x)[:size] for x in jax.device_get(best))
        rows[part, :found] = np.where(np.isneginf(best_scores), -1, best_rows)
        scores[part, :found] = best_scores
    return rows, scores


def _shared(asked: Sparse, columns: sparse.csc_array, n: int) -> np.ndarray:
    """f32[q, n]: for query i and item g, sum over j of min(asked[i, j], columns[g, j])."""
    q = len(asked.indptr) - 1
    # each entry (i, j) of `asked` meets all entries (g, j) of column j
    starts, lengths = columns.indptr[asked.indices], np.diff(columns.indptr)[asked.indices]
    ends = np.cumsum(lengths)
    met = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    smaller = np.minimum(np.repeat(asked.data, lengths), columns.data[met])
    query = np.repeat(np.repeat(np.arange(q), np.diff(asked.indptr)), lengths)
    return np.bincount(query * n + columns.indices[met], smaller, minlength=q * n).reshape(q, n).astype(np.float32)


@functools.partial(jax.jit, static_argnames="k")
def _nearest(
    queries: Array, overlap: Array, exclude: Array, gallery: Array, weight: Array, k: int
) -> tuple[Array, Array]:
    """Scores f32[q, k] and rows i32[q, k]."""
    cosines = jnp.einsum("qd,nd->qn", queries, gallery, precision=jax.lax.Precision.HIGHEST)
    scores = (1 - weight) * overlap + weight * (1 + cosines) / 2
    scores = scores.at[jnp.arange(len(queries)), exclude].set(-jnp.inf, mode="drop")
    return jax.lax.top_k(scores, k)
