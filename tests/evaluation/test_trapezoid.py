"""The trapezoid average precision by hand, and against the loop of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.evaluation import trapezoid_ap


def test_worked_example():
    # rel = 0,1,0,0,1,1 with R = 5: (0/1 + 1/2)/10 + (1/4 + 2/5)/10 + (2/5 + 3/6)/10
    assert trapezoid_ap(np.array([2, 5, 6]), 5) == pytest.approx(0.205)


def loop(relevant, positives):
    area = hits = 0
    for rank, rel in enumerate(relevant):  # from 0
        if rel:
            p0 = hits / rank if rank else 1
            area += (p0 + (hits + 1) / (rank + 1)) / (2 * positives)
            hits += 1
    return area


@settings(deadline=None, max_examples=200)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 3))
def test_equals_the_loop(relevant, missing):
    positives = sum(relevant) + missing
    ap = trapezoid_ap(np.flatnonzero(relevant) + 1, positives)
    assert ap == pytest.approx(loop(relevant, positives))
    precisions = [sum(relevant[: i + 1]) / (i + 1) for i, rel in enumerate(relevant) if rel]
    assert ap <= sum(precisions) / positives + 1e-12  # the usual average precision


def test_a_perfect_ranking_scores_one_and_nothing_found_zero():
    assert trapezoid_ap(np.array([1, 2, 3]), 3) == 1 and trapezoid_ap(np.zeros(0, int), 2) == 0
