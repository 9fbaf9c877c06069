"""Few-shot classification against a loop over its definition."""

import dataclasses

import numpy as np
import pytest
from test_linear_probe import embeddings

from ssljax.evaluation import Embeddings, FewShot
from ssljax.types import UserError

SPLITS = {"train": embeddings(200, 0, noise=0.8), "test": embeddings(100, 1, noise=0.8)}
SPLITS = {s: dataclasses.replace(e, vectors=(e.vectors - 5) / np.logspace(-2, 2, 8)) for s, e in SPLITS.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_equals_the_loop_where_all_photos_are_drawn():
    train, test = SPLITS["train"], SPLITS["test"]
    rows = np.concatenate([np.flatnonzero(train.label == c)[:7] for c in range(3)])
    few = Embeddings(train.ids[rows], train.vectors[rows], label=train.label[rows])
    means = [unit(few.vectors)[few.label == c].mean(0) for c in range(3)]
    right = [
        np.argmax([x @ m / np.linalg.norm(m) for m in means]) == truth
        for x, truth in zip(unit(test.vectors), test.label, strict=True)
        if truth >= 0
    ]
    figures = FewShot(shots=(7,), draws=3)({"train": few, "test": test}.get)
    assert figures == {
        "test/few_shot/7_shot": pytest.approx(np.mean(right)),
        "test/few_shot/7_shot_std": pytest.approx(0, abs=1e-9),
        "test/few_shot/classes": 3,
        "test/few_shot/queries": len(right),
        "test/few_shot/queries_left_out": 100 - len(right),
    }


def test_more_shots_are_better_and_vary_less():
    figures = FewShot(shots=(1, 20), draws=30)(SPLITS.get)
    assert figures["test/few_shot/20_shot"] > figures["test/few_shot/1_shot"] + 0.02
    assert figures["test/few_shot/20_shot_std"] < figures["test/few_shot/1_shot_std"]


def test_the_seed_decides():
    assert FewShot()(SPLITS.get) == FewShot()(SPLITS.get) != FewShot(seed=1)(SPLITS.get)


def test_a_class_with_too_few_photos_takes_no_part():
    train = SPLITS["train"]
    label = train.label.copy()
    label[np.flatnonzero(label == 1)[4:]] = -1
    parts = SPLITS | {"train": dataclasses.replace(train, label=label)}
    figures = FewShot(shots=(5,))(parts.get)
    assert figures["test/few_shot/classes"] == 2
    assert figures["test/few_shot/queries"] == np.isin(SPLITS["test"].label, [0, 2]).sum()
    with pytest.raises(UserError, match=r"FewShot\.shots=\(150,\): split 'train' has 0 classes of 150 photos or more"):
        FewShot(shots=(150,)).check(parts.get)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shots": ()}, r"FewShot\.shots=\(\)"),
        ({"shots": (0, 5)}, r"FewShot\.shots=\(0, 5\)"),
        ({"draws": 0}, r"FewShot\.draws=0"),
        ({"seed": -1}, r"FewShot\.seed=-1"),
        ({"gallery": "test"}, "their own example"),
    ],
)
def test_a_mistake_is_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        FewShot(**changes)


def test_labels_are_needed():
    with pytest.raises(UserError, match="FewShot needs labels, and split 'test' has none"):
        FewShot().check((SPLITS | {"test": dataclasses.replace(SPLITS["test"], label=None)}).get)


def test_labels_as_large_as_they_may_be_are_told_as_small_ones():
    def figures(numbers):
        parts = {
            name: dataclasses.replace(part, label=np.append(numbers, -1)[part.label])
            for name, part in (("train", embeddings(200, 0)), ("test", embeddings(100, 1)))
        }
        return FewShot(gallery="train", split="test", shots=(1, 5))(parts.get)

    assert figures([0, 1, 2]) == figures([7, 10**6, 2**31 - 1])
