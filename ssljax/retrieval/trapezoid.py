"""Average precision as Oxford, Paris and Copydays define it: the area under precision and recall, by trapezoids."""

import numpy as np


def trapezoid_ap(relevant: np.ndarray, positives: np.ndarray, junk: np.ndarray | None = None) -> np.ndarray:
    """f64[Q], average precision of whole rankings: sum over the hits of (p0 + p1) / 2R.

    A hit at rank i, from 1, with j hits before it, is a step of 1 / R in recall; p0 = j / (i - 1) is the precision just
    before (1 if i = 1) and p1 = (j + 1) / i that after it (Philbin et al. 2007, as in the evaluation of Oxford 5k). It
    is below the usual average precision, whose steps have the height p1, wherever something wrong comes before a hit.

    Args:
      relevant: bool[Q, K], in the order of the ranking; hits beyond K count as never found.
      positives: i[Q], R, at least 1.
      junk: bool[Q, K], what is neither right nor wrong and is taken out of the ranking first; none of it relevant.
    """
    ranks = ranks_without(junk, relevant.shape)
    hits = np.cumsum(relevant, axis=1)
    before = np.where(ranks > 1, (hits - 1) / np.maximum(ranks - 1, 1), 1.0)
    return np.where(relevant, before + hits / np.maximum(ranks, 1), 0).sum(axis=1) / (2 * positives)


def ranks_without(junk: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """i64[Q, K]: the ranks, from 1, once junk bool[Q, K] is taken out; junk itself has that of the item before it."""
    return np.cumsum(np.ones(shape, bool) if junk is None else ~junk, axis=1)
