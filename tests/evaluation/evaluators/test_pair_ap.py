"""Average precision of all pairs: by hand, scikit-learn's, ties, and the evaluator against the loop over all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, PairAP, pair_ap
from ssljax.types import UserError


def test_by_hand():
    assert pair_ap(np.array([3.0, 2, 1]), np.array([1, 0, 1], bool), 2) == pytest.approx((1 + 2 / 3) / 2)
    assert pair_ap(np.array([3.0, 2, 1]), np.array([1, 0, 1], bool), 4) == pytest.approx((1 + 2 / 3) / 4)
    assert pair_ap(np.zeros(0), np.zeros(0, bool), 3) == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_ties_are_broken_for_the_worst_and_otherwise_it_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    scores, true = rng.integers(0, 5, 30).astype(float), rng.random(30) < 0.4
    true[0] = True
    parted = scores - 0.5 * true  # a true pair falls below the wrong ones of its score, and not below the next
    assert pair_ap(scores, true, true.sum()) == pytest.approx(pair_ap(parted, true, true.sum()))
    broken = parted + 1e-6 * rng.random(30)
    assert pair_ap(broken, true, true.sum()) == pytest.approx(average_precision_score(true, broken))
    assert pair_ap(scores, true, true.sum()) <= average_precision_score(true, scores) + 1e-12


@pytest.mark.parametrize("scores, positives, message", [([1.0], 0, "positives=0"), ([np.nan], 1, "1 of 1 scores")])
def test_bad_inputs(scores, positives, message):
    with pytest.raises(UserError, match=message):
        pair_ap(np.array(scores), np.ones(1, bool), positives)


def split(titles, seed):
    vectors = np.random.default_rng(seed).integers(-2, 3, (len(titles), 3)).astype(np.float32)
    return Embeddings(text(str(i) for i in range(len(titles))), vectors, {"title": text(titles)})


def loop(queries, gallery, same):
    """All pairs, and each query's best, sorted in Python."""
    pairs, best, positives = [], [], []
    for i, query in enumerate(queries.vectors):
        mine = []
        for j, item in enumerate(gallery.vectors):
            if not (same and i == j):
                length = np.linalg.norm(query) * np.linalg.norm(item)
                true = queries.columns["title"][i] == gallery.columns["title"][j] != ""
                mine.append((round(float(query @ item / length), 5) if length else 0.0, bool(true)))
        positives.append(sum(true for _, true in mine))
        pairs += mine
        best.append(max(mine, key=lambda pair: pair[0]))

    def ap(ranked, count):
        ranked, hits, total = sorted(ranked, key=lambda pair: (-pair[0], pair[1])), 0, 0.0
        for rank, (_, true) in enumerate(ranked, start=1):
            hits += true
            total += true * hits / rank
        return total / count

    return ap(pairs, sum(positives)), ap(best, sum(p > 0 for p in positives)), sum(positives)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gallery", [None, "train"])
def test_the_evaluator_sorts_the_pairs_of_all_queries_also_of_those_without_an_answer(seed, gallery, monkeypatch):
    monkeypatch.setattr("ssljax.evaluation.nearest.SCORES_AT_ONCE", 12)  # a few queries at a time
    splits = {"test": split(["a", "a", "b", "c", "", ""], seed), "train": split(["a", "b", "b", "x", ""], seed + 50)}
    # cosines that are equal in exact arithmetic may differ in the last digit: rounded in both
    figures = PairAP("title", gallery=gallery, k=9)({name: rounded(part) for name, part in splits.items()}.get)
    uap, gap, count = loop(rounded(splits["test"]), rounded(splits[gallery or "test"]), gallery is None)
    assert figures["test/true_pairs"] == count and figures["test/queries"] == 6
    assert figures["test/uap"] == pytest.approx(uap)
    assert figures["test/gap"] == pytest.approx(gap)


def rounded(part):
    """Vectors along an axis: their cosines are exactly -1, 0 or 1, with many ties."""
    vectors = np.zeros_like(part.vectors)
    axis = np.abs(part.vectors).argmax(axis=1)
    row = np.arange(len(vectors))
    vectors[row, axis] = np.where(part.vectors[row, axis] < 0, -1, 1)
    return Embeddings(part.ids, vectors, part.columns)


def test_true_pairs_beyond_k_count_as_never_found():
    part = Embeddings(text("abc"), np.ones((3, 1), np.float32), {"title": text("xxx")})
    assert PairAP("title")({"test": part}.get)["test/uap"] == 1
    assert PairAP("title", k=1)({"test": part}.get)["test/uap"] == 0.5


def test_no_true_pair_and_bad_fields():
    with pytest.raises(UserError, match=r"PairAP\.relevant='title'.*'test'"):
        PairAP("title").check({"test": split(["a", "b"], 0)}.get)
    with pytest.raises(UserError, match=r"PairAP\.relevant='Title' is not a column"):
        PairAP("Title").check({"test": split(["a", "b"], 0)}.get)
    with pytest.raises(UserError, match=r"PairAP\.k=0"):
        PairAP(k=0)
