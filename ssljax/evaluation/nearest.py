"""Exact nearest neighbours on the device (`top_k`), a chunk of queries at a time: never the scores of all pairs."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.types import Array, UserError

SCORES_AT_ONCE = 2**25  # 128 MiB of float32
LARGEST_CHUNK = 1024
SEARCHED_AT_ONCE = 8192  # queries of an index

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(queries f32[Q, D], k) → rows i[Q, k], all different, and scores f32[Q, k], best first: the search of an index."""
Build = Callable[[np.ndarray], Search]
"""Builds an index of f32[n, D], of unit length: `lambda vectors: ScaNN().structure(vectors).search`."""


def top_k(
    queries: Array | np.ndarray,
    gallery: Array | np.ndarray,
    k: int,
    *,
    exclude: np.ndarray | None = None,
    chunk: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` gallery rows with the largest dot product with each query, in float32; of equal ones the lower row first.

    Args:
      queries: f32[Q, D], finite; of unit length, like the gallery, if the score is to be the cosine.
      gallery: f32[n, D], finite.
      k: how many neighbours, at least 1. If there are fewer, the remaining rows are -1 and scores -inf.
      exclude: i32[Q], for each query a gallery row to leave out: itself, where queries are in the gallery.
      chunk: queries at a time; by default as many as have 2^25 scores, between 1 and 1024.

    Returns:
      rows i32[Q, k] and scores f32[Q, k], best first.

    Raises:
      UserError: queries and gallery differ in D.
    """
    rows, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    for part, part_rows, part_scores in top_k_chunks(queries, gallery, k, exclude=exclude, chunk=chunk):
        rows[part], scores[part] = part_rows, part_scores
    return rows, scores


def top_k_chunks(
    queries: Array | np.ndarray,
    gallery: Array | np.ndarray,
    k: int,
    *,
    exclude: np.ndarray | None = None,
    chunk: int | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """As `top_k`, a chunk of queries at a time: (the queries' slice, rows i32[q, k], scores f32[q, k])."""
    (count, dim), items = queries.shape, len(gallery)
    if gallery.shape[1] != dim:
        raise UserError(f"the queries have {dim} dimensions and the gallery {gallery.shape[1]}: they must be equal")
    chunk = chunk or _chunk_size(count, items)
    found = min(k, items)
    # row `items` does not exist: it excludes nothing
    excluded = np.full(count, items, np.int32) if exclude is None else np.asarray(exclude, np.int32)
    host, on_device = np.asarray(queries, np.float32), jax.device_put(gallery)
    for start in range(0, count if found else 0, chunk):
        size = min(chunk, count - start)
        # the last chunk is padded, so that one compiled program serves all
        padded, out = np.zeros((chunk, dim), np.float32), np.full(chunk, items, np.int32)
        padded[:size], out[:size] = host[start : start + size], excluded[start : start + size]
        best = _nearest(jax.device_put(padded), on_device, jax.device_put(out), found)
        scores, rows = (np.asarray(x)[:size] for x in jax.device_get(best))
        rows = np.where(np.isneginf(scores), -1, rows)
        missing = ((0, 0), (0, k - found))
        yield (
            slice(start, start + size),
            np.pad(rows, missing, constant_values=-1),
            np.pad(scores, missing, constant_values=-np.inf),
        )


def neighbours(
    queries: np.ndarray, gallery: np.ndarray, k: int, *, own: np.ndarray | None = None, build: Build | None = None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """As `top_k_chunks`, exactly or, with `build`, through an index of the gallery, whose time is linear in the items.

    Args:
      queries: f32[Q, D].
      gallery: f32[n, D].
      k: how many neighbours.
      own: i32[Q], the gallery row that each query is itself, which is left out.
      build: builds the index; None compares each query with every item.
    """
    if build is None:
        yield from top_k_chunks(queries, gallery, k, exclude=own)
        return
    search, asked = build(gallery), min(k + (own is not None), len(gallery))
    for start in range(0, len(queries), SEARCHED_AT_ONCE):
        part = slice(start, min(start + SEARCHED_AT_ONCE, len(queries)))
        rows, scores = search(queries[part], asked)
        if own is not None:
            dropped = rows == own[part, None]
            dropped[~dropped.any(axis=1), -1] = True  # as many are left of a query that the index did not find itself
            rows, scores = (x[~dropped].reshape(len(x), asked - 1) for x in (rows, scores))
        missing = ((0, 0), (0, k - rows.shape[1]))
        yield (
            part,
            np.pad(rows.astype(np.int32), missing, constant_values=-1),
            np.pad(scores, missing, constant_values=-np.inf),
        )


@functools.partial(jax.jit, static_argnames="k")
def _nearest(queries: Array, gallery: Array, exclude: Array, k: int) -> tuple[Array, Array]:
    """Scores f32[q, k] and rows i32[q, k]. Groups' maxima first ("two-level") were measured slower than plain top_k."""
    scores = jnp.einsum("qd,nd->qn", queries, gallery, precision=jax.lax.Precision.HIGHEST)
    scores = scores.at[jnp.arange(len(queries)), exclude].set(-jnp.inf, mode="drop")
    return jax.lax.top_k(scores, k)  # of equal scores the lower row comes first


def _chunk_size(queries: int, items: int) -> int:
    """A power of two, so that few programs serve many sizes."""
    largest = min(LARGEST_CHUNK, max(1, SCORES_AT_ONCE // max(items, 1)))
    return min(1 << (largest.bit_length() - 1), 1 << max(queries - 1, 0).bit_length())
