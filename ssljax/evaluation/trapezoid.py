"""Average precision as Oxford, Paris and Copydays define it: the area under precision and recall, by trapezoids."""

import numpy as np


def trapezoid_ap(ranks: np.ndarray, positives: int) -> float:
    """The average precision of one query, over its whole ranking: sum over the hits of (p0 + p1) / 2R.

    A hit at rank i with j hits before it is a step of 1 / R in recall; p0 = j / (i - 1) is the precision just before (1
    if i = 1) and p1 = (j + 1) / i that after it (Philbin et al. 2007, as in the evaluation of Oxford 5k). It is below
    the usual average precision, whose steps have the height p1, wherever something wrong comes before a hit.

    Args:
      ranks: i[H], those of the relevant items that were found, from 1, rising; what is junk, neither right nor wrong,
        has no rank, and those after it move up.
      positives: R, at least 1 and H.
    """
    hits = np.arange(len(ranks))
    before = np.where(ranks > 1, hits / np.maximum(ranks - 1, 1), 1.0)
    return float((before + (hits + 1) / ranks).sum() / (2 * positives))
