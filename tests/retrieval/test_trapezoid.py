"""The trapezoid average precision by hand, and against the loop of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.retrieval import trapezoid_ap


def test_worked_example():
    # rel = 0,1,0,0,1,1 with R = 5: (0/1 + 1/2)/10 + (1/4 + 2/5)/10 + (2/5 + 3/6)/10
    assert trapezoid_ap(np.array([[0, 1, 0, 0, 1, 1]], bool), np.array([5]))[0] == pytest.approx(0.205)


def loop(relevant, positives, junk):
    kept = [rel for rel, out in zip(relevant, junk, strict=True) if not out]
    area = hits = 0
    for rank, rel in enumerate(kept):  # from 0
        if rel:
            p0 = hits / rank if rank else 1
            area += (p0 + (hits + 1) / (rank + 1)) / (2 * positives)
            hits += 1
    return area


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["right", "wrong", "junk"]), min_size=1, max_size=12), st.integers(0, 3))
def test_equals_the_loop(ranking, missing):
    relevant, junk = (np.array([[kind == this for kind in ranking]]) for this in ("right", "junk"))
    positives = relevant.sum() + missing
    if positives:
        ap = trapezoid_ap(relevant, np.array([positives]), junk)[0]
        assert ap == pytest.approx(loop(relevant[0], positives, junk[0]))
        kept = relevant[:, ~junk[0]]
        if kept.size:
            assert ap == pytest.approx(trapezoid_ap(kept, np.array([positives]))[0])


def test_a_perfect_ranking_scores_one():
    assert trapezoid_ap(np.array([[1, 1, 0], [1, 0, 0]], bool), np.array([2, 1])).tolist() == [1, 1]
