"""Pairs within and between groups are what they are called, and their AUC, of groups apart and not, is right."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Separation, pair_similarities
from ssljax.types import UserError

GROUPS = np.array([5, 0, 5, -1, 0, 5, 7, -1], np.int32)


def embeddings(vectors, groups):
    return Embeddings(text(f"{i}" for i in range(len(vectors))), vectors, {"shelf": text(groups)})


def test_groups_apart_have_an_auc_of_one_and_random_ones_of_a_half():
    rng, groups = np.random.default_rng(0), [f"g{i // 5}" for i in range(100)]
    apart = np.repeat(np.eye(20, dtype=np.float32), 5, axis=0)
    figures = Separation(relevant="shelf", name="shelf")(lambda split: embeddings(apart, groups))
    assert figures == {"test/shelf/auc": 1.0, "test/shelf/within": pytest.approx(1), "test/shelf/between": 0.0}
    random = rng.normal(size=(100, 8)).astype(np.float32)
    assert abs(Separation(relevant="shelf")(lambda split: embeddings(random, groups))["test/auc"] - 0.5) < 0.05


def test_what_cannot_be_judged_is_told_before_training():
    alone = embeddings(np.ones((3, 2), np.float32), ["a", "b", "c"])
    with pytest.raises(UserError, match=r"Separation.relevant='shelf' on split 'test': .* need a group of two items"):
        Separation(relevant="shelf").check(lambda split: alone)
    with pytest.raises(UserError, match="is not a column of the data"):
        Separation(relevant="shop").check(lambda split: alone)
    with pytest.raises(UserError, match=r"Separation\.pairs=0"):
        Separation(pairs=0)


def test_each_pair_is_as_likely_as_any_other():
    # the dot product of rows i and j of a matrix of random numbers tells which pair it was
    vectors = np.random.default_rng(1).standard_normal((8, 3), np.float32)
    dots = {round(float(vectors[i] @ vectors[j]), 4): (i, j) for i in range(8) for j in range(i)}
    drawn = pair_similarities(vectors, GROUPS, pairs=20_000)
    for values, alike in ((drawn.within, True), (drawn.between, False)):
        counts = Counter(dots[round(float(value), 4)] for value in values)
        grouped = [(i, j) for i in range(8) for j in range(i) if min(GROUPS[i], GROUPS[j]) >= 0]
        assert set(counts) == {(i, j) for i, j in grouped if (GROUPS[i] == GROUPS[j]) == alike}
        expected = 20_000 / len(counts)
        assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_auc_with_ties():
    vectors = np.random.default_rng(0).integers(-1, 2, (8, 2)).astype(np.float32)
    drawn = pair_similarities(vectors, GROUPS, pairs=500)
    truth = np.repeat([1, 0], 500)
    assert drawn.auc == pytest.approx(roc_auc_score(truth, np.concatenate([drawn.within, drawn.between])))


def test_the_seed_decides():
    vectors = np.random.default_rng(0).standard_normal((8, 3), np.float32)
    a, b, c = (pair_similarities(vectors, GROUPS, pairs=50, seed=s).within for s in (0, 0, 1))
    assert (a == b).all() and not (a == c).all()


@pytest.mark.parametrize("groups", [[0, 1, 2], [3, 3, 3], [-1, -1, -1], [2, 2, -1]])
def test_groups_without_such_pairs_are_refused(groups):
    with pytest.raises(UserError, match="groups"):
        pair_similarities(np.eye(3, dtype=np.float32), np.array(groups, np.int32))
