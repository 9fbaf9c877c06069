"""The kNN classifier against a loop over its definition."""

import numpy as np
import pytest

from ssljax.data.columns import text
from ssljax.evaluation import KNN, Embeddings
from ssljax.evaluation.evaluators.knn import vote
from ssljax.types import UserError


def split(n, seed, dim=4, classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, classes, n).astype(np.int32)
    vectors = rng.standard_normal((n, dim), np.float32) + 0.7 * np.eye(dim, dtype=np.float32)[labels % dim]
    return Embeddings(text(f"{seed}/{i}" for i in range(n)), vectors, label=labels)


SPLITS = {"train": split(50, 0), "test": split(30, 1)}


def accuracy(k, temperature):
    """Vote by vote."""
    train, test = SPLITS["train"], SPLITS["test"]
    unit = {s: e.vectors / np.linalg.norm(e.vectors, axis=1, keepdims=True) for s, e in SPLITS.items()}
    right = []
    for x, truth in zip(unit["test"], test.label, strict=True):
        neighbours = sorted(
            (-float(x @ y), label) for y, label in zip(unit["train"], train.label, strict=True) if label >= 0
        )
        votes = dict.fromkeys(range(3), 0.0)
        for negative, label in neighbours[:k]:
            votes[label] += np.exp(-negative / temperature)
        if truth >= 0:
            right.append(max(votes, key=votes.get) == truth)
    return np.mean(right)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.07), (20, 0.1), (5, 1e3)])
def test_equals_the_loop(k, temperature):
    figures = KNN(k=k, temperature=temperature)(SPLITS.get)
    labelled = int((SPLITS["test"].label >= 0).sum())
    assert figures == {
        "test/knn/accuracy": pytest.approx(accuracy(k, temperature)),
        "test/knn/queries": labelled,
        "test/knn/queries_left_out": 30 - labelled,
        "test/knn/k": k,
    }


def test_more_neighbours_than_there_are_is_all_of_them_and_said():
    labelled = int((SPLITS["train"].label >= 0).sum())
    figures = KNN(k=200)(SPLITS.get)
    assert figures["test/knn/k"] == labelled
    assert figures == KNN(k=labelled)(SPLITS.get)


def test_a_low_temperature_does_not_overflow_and_ties_go_to_the_lower_label():
    labels, scores = np.array([[2, 0, 0], [1, 0, 1]]), np.array([[0.9, 0.5, 0.5], [0.5, 0.5, -1]], np.float32)
    np.testing.assert_array_equal(vote(labels, scores, 1e-5), [2, 0])


def test_mistakes():
    with pytest.raises(UserError, match=r"KNN\.k=0"):
        KNN(k=0)
    with pytest.raises(UserError, match=r"KNN\.temperature=0"):
        KNN(temperature=0)
    with pytest.raises(UserError, match="itself"):
        KNN(gallery="test")
    with pytest.raises(UserError, match="split 'train' has none"):
        KNN()({"train": Embeddings(np.array(["a"]), np.ones((1, 2))), "test": SPLITS["test"]}.get)


def test_labels_as_large_as_they_may_be_are_told_as_small_ones():
    def embed(numbers):
        vectors = np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
        label = np.array(numbers)[[0, 1, 2, 0, 1, 2]]
        return lambda split: Embeddings(text(map(str, range(6))), vectors, label=label)

    small, large = (KNN(gallery="train", split="test")(embed(n)) for n in ((0, 1, 2), (7, 10**6, 2**31 - 1)))
    assert small == large and small["test/knn/accuracy"] == 1
