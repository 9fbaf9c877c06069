"""Row-wise F1 by hand and by a loop, and the threshold against a search over all thresholds there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, ShopeeF1
from ssljax.evaluation.evaluators.shopee import Matches
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError


def random(seed, n=12):
    rng = np.random.default_rng(seed)
    vectors = normalise(rng.integers(-2, 3, (n, 2)).astype(np.float32))
    return vectors, rng.integers(-1, 4, n).astype(np.int32)


def loop(vectors, groups, threshold, most):
    scores = []
    for i, query in enumerate(vectors):
        others = sorted((j for j in range(len(vectors)) if j != i), key=lambda j: (-float(vectors[j] @ query), j))
        found = {i} | {j for j in others[: most - 1] if vectors[j] @ query >= threshold}
        truth = {i} | {j for j in others if groups[j] == groups[i] >= 0}
        scores.append(2 * len(found & truth) / (len(found) + len(truth)))
    return scores


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([-2.0, 0.05, 0.62, 0.93, 2.0]), st.sampled_from([2, 5, 50]))
def test_equals_the_loop(seed, threshold, most):
    vectors, groups = random(seed)
    # exact ties of cosines that rounding parts differently here and there are no matter of this test
    vectors = vectors + np.random.default_rng(seed).normal(0, 1e-3, vectors.shape).astype(np.float32)
    found = Matches.of(vectors, groups, most - 1).f1(threshold)
    assert found.tolist() == pytest.approx(loop(vectors, groups, threshold, most))


def test_by_hand_itself_counts_on_both_sides():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    matches = Matches.of(vectors, np.array([0, 0, 0, -1], np.int32), 3)
    assert matches.sizes.tolist() == [3, 3, 3, 1]
    assert matches.f1(0.5).tolist() == pytest.approx([4 / 5, 4 / 5, 2 / 5, 2 / 3])
    assert matches.f1(2.0).tolist() == pytest.approx([2 / 4, 2 / 4, 2 / 4, 1])  # each finds itself alone
    assert matches.f1(0.0).tolist() == pytest.approx([6 / 7, 6 / 7, 6 / 7, 2 / 5])  # each finds all
    assert matches.best_threshold() == 0.0


def test_the_chunks_of_items_make_no_difference(monkeypatch):
    vectors, groups = random(0, n=30)
    whole = Matches.of(vectors, groups, 5)
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 4 * 30)
    parts = Matches.of(vectors, groups, 5)
    assert (parts.scores == whole.scores).all() and (parts.true == whole.true).all()


def test_rounding_at_the_threshold_does_not_decide():
    matches = Matches.of(
        normalise(np.array([[1, 0], [1, 1e-4], [0, 1]], np.float32)), np.array([0, 0, -1], np.int32), 2
    )
    below = matches.best_threshold()
    assert 0.4 < below < 0.6
    assert matches.f1(below - 1e-6).mean() == matches.f1(below + 1e-6).mean() == 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 49]))
def test_no_threshold_is_better_than_the_best(seed, k):
    matches = Matches.of(*random(seed), k)
    there = [np.inf, *np.unique(matches.scores[np.isfinite(matches.scores)]).tolist()]
    means = [matches.f1(threshold).mean() for threshold in there]
    assert matches.f1(matches.best_threshold()).mean() == pytest.approx(max(means))


def test_if_every_match_is_wrong_nothing_is_predicted():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    matches = Matches.of(vectors, np.array([0, -1, 0, -1], np.int32), 1)
    assert matches.f1(matches.best_threshold()).tolist() == pytest.approx([2 / 3, 1, 2 / 3, 1])


def split(titles, angles):
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Embeddings(text(str(i) for i in range(len(titles))), vectors, {"title": text(titles)})


def test_the_threshold_comes_from_the_other_split():
    splits = {
        "val": split(list("aab"), np.array([0, 0.1, 1.0])),
        "test": split(list("ccddx"), np.array([0, 0.05, 1.0, 1.7, 3.0])),
    }
    figures = ShopeeF1("title", name="n")(splits.get)
    assert figures["test/n/threshold"] == pytest.approx((np.cos(0.1) + np.cos(0.9)) / 2, abs=1e-6)
    assert figures["test/n/calibrated-row-f1"] == 1 and figures["test/n/queries"] == 5
    assert figures["test/n/row-f1"] == pytest.approx((1 + 1 + 2 / 3 + 2 / 3 + 1) / 5)


def test_bad_inputs():
    pair = split(list("aab"), np.arange(3.0))
    with pytest.raises(UserError, match="shares 2 products with split 'test'"):
        ShopeeF1("title").check({"val": pair, "test": pair}.get)
    with pytest.raises(UserError, match="'test'"):
        ShopeeF1("title").check({"val": pair, "test": split(list("xyz"), np.arange(3.0))}.get)
    with pytest.raises(UserError, match=r"ShopeeF1\.relevant='Title' is not a column"):
        ShopeeF1("Title").check({"val": pair, "test": pair}.get)
    with pytest.raises(UserError, match=r"ShopeeF1\.most=1"):
        ShopeeF1(most=1)
    with pytest.raises(UserError, match=r"ShopeeF1\.split"):
        ShopeeF1(calibrate="test")
