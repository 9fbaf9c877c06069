"""Min2: how many of a ranking to show, when nearly every item has at least one other like it."""

import numpy as np

from ssljax.types import UserError


def min2(scores: np.ndarray, threshold: float, loose: float) -> np.ndarray:
    """bool[Q, k], which of each query's neighbours to keep: those from `threshold` on, and the nearest from `loose` on.

    With the query itself, which leads its own ranking and is always kept, an answer has so at least two items unless
    the second is clearly another. Both thresholds are to be chosen on a validation split.
    Source: the first place of Shopee's Price Match Guarantee (Kaggle 2021), F1 .724 → .743.

    Args:
      scores: f32[Q, k], best first, without the query itself; -inf = none.
      threshold: for all ranks.
      loose: for the nearest, at most `threshold`.

    Raises:
      UserError: `loose` is above `threshold`, or one of them NaN.
    """
    if not loose <= threshold:
        raise UserError(f"loose={loose} must be at most threshold={threshold}, which the nearest is to fall short of")
    keep = scores >= threshold
    keep[:, :1] = scores[:, :1] >= loose
    return keep
