"""What of a ranking to answer with: items instead of their photos (`top_items`), and how many of them (`min2`)."""

from typing import Literal

import numpy as np

from ssljax.evaluation.nearest import top_k
from ssljax.types import UserError


def collapse(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `k` items of each ranking of photos, each with the score of its best photo.

    Args:
      items: i32[Q, K], the item of each photo found, best photo first, from any index; -1 = none.
      scores: f32[Q, K], falling.
      k: how many items.

    Returns:
      items i32[Q, k] and scores f32[Q, k]; -1 and -inf where there are no more.
    """
    new = first_of_each(items)
    place = np.cumsum(new, axis=1) - 1
    query, column = np.nonzero(new & (place < k))
    found, best = np.full((len(items), k), -1, np.int32), np.full((len(items), k), -np.inf, np.float32)
    found[query, place[query, column]], best[query, place[query, column]] = items[query, column], scores[query, column]
    return found, best


def first_of_each(items: np.ndarray) -> np.ndarray:
    """bool[Q, K]: where an item comes for the first time in its row of i32[Q, K]; never where that is -1."""
    order = np.argsort(items, axis=1, kind="stable")
    of_item = np.take_along_axis(items, order, axis=1)
    first = np.ones(items.shape, bool)
    first[:, 1:] = of_item[:, 1:] != of_item[:, :-1]
    new = np.empty_like(first)
    np.put_along_axis(new, order, first, axis=1)
    return new & (items >= 0)


def top_items(
    queries: np.ndarray,
    gallery: np.ndarray,
    items: np.ndarray,
    k: int,
    *,
    by: Literal["max", "mean"] = "max",
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` items nearest to each query, exactly.

    Args:
      queries: f32[Q, D], of unit length.
      gallery: f32[n, D], photos, of unit length.
      items: i32[n], the item of each photo, from 0.
      k: how many items, at least 1 and at most all.
      by: an item's score is the largest of its photos' cosines, or their mean. Of equal ones the item with the earlier
        photo comes first by "max", the lower number by "mean".
      exclude: i32[Q], for each query an item to leave out: its own, where the query is in the gallery.

    Returns:
      items i32[Q, k] and scores f32[Q, k], best first; -1 and -inf where `exclude` leaves fewer.

    Raises:
      UserError: there are fewer items than `k`, or the item numbers do not match the photos.
    """
    items = np.asarray(items)
    if len(items) != len(gallery) or not 0 <= min(items, default=-1) <= max(items) < 2**31:
        raise UserError(f"items: {len(gallery)} photos need as many item numbers from 0 to {2**31 - 1}")
    if by not in ("max", "mean"):
        raise UserError(f"by={by!r}: choose max or mean")
    there, number = np.unique(items, return_inverse=True)
    if not 1 <= k <= len(there):
        raise UserError(f"k={k} must be at least 1 and at most {len(there)}, the number of items")
    if by == "mean":
        # the mean of the cosines is the dot product with the mean of the photos
        means = np.zeros((len(there), gallery.shape[1]), np.float32)
        np.add.at(means, number, gallery)
        means /= np.bincount(number)[:, None].astype(np.float32)
        if exclude is not None:
            place = np.minimum(np.searchsorted(there, exclude), len(there) - 1)
            exclude = np.where(there[place] == exclude, place, len(there))
        rows, scores = top_k(queries, means, k, exclude=exclude)
        return np.where(rows >= 0, there[rows], -1).astype(np.int32), scores
    found, best = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    rest, depth = np.arange(len(queries)), min(2 * k, len(gallery))
    while len(rest):
        rows, scores = top_k(queries[rest], gallery, depth)
        photo_of = items[rows]
        if exclude is not None:
            photo_of = np.where(photo_of == exclude[rest, None], -1, photo_of)
        found[rest], best[rest] = collapse(photo_of, scores, k)
        if depth == len(gallery):
            break
        # a few items fill the first ranks of these queries: search deeper
        rest, depth = rest[found[rest, -1] < 0], min(4 * depth, len(gallery))
    return found, best


def min2(scores: np.ndarray, threshold: float, loose: float) -> np.ndarray:
    """bool[Q, k], which of each query's neighbours to keep: those from `threshold` on, and the nearest from `loose` on.

    With the query itself, which leads its own ranking, an answer then has at least two items unless the second is
    clearly another one: useful where nearly every item has a partner. Choose both thresholds on a validation split.
    Source: the first place of Shopee's Price Match Guarantee (Kaggle 2021), F1 .724 → .743.

    Args:
      scores: f32[Q, k], best first, without the query itself; -inf = none.
      threshold: for all ranks.
      loose: for the nearest, at most `threshold`.

    Raises:
      UserError: `loose` is above `threshold`, or one of them is NaN.
    """
    if not loose <= threshold:
        raise UserError(f"loose={loose} must be at most threshold={threshold}, the nearest may fall below")
    keep = scores >= np.float64(threshold)  # a threshold between two neighbouring float32 stays between them
    keep[:, :1] = scores[:, :1] >= np.float64(loose)
    return keep
