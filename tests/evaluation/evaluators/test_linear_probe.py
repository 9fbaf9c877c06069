"""The linear probe beside scikit-learn's logistic regression."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, LinearProbe
from ssljax.types import UserError

PROBE = LinearProbe(epochs=20, batch_size=64)


def embeddings(n, seed, classes=3, dim=8, noise=1.0, unlabelled=0.1):
    """Gaussian classes, with dimensions of very different scales and an offset."""
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    vectors = centres[truth] + noise * rng.standard_normal((n, dim))
    vectors = vectors * np.logspace(-2, 2, dim) + 5
    label = np.where(rng.random(n) < unlabelled, -1, truth).astype(np.int32)
    return Embeddings(text(f"{seed}/{i}" for i in range(n)), vectors.astype(np.float32), label=label)


def splits(n=500, **changes):
    return {"train": embeddings(n, 0, **changes), "test": embeddings(n, 1, **changes)}


def by_scikit_learn(parts):
    train, test = (parts[s] for s in ("train", "test"))
    known, judged = train.label >= 0, test.label >= 0
    scale = StandardScaler().fit(train.vectors[known])
    model = LogisticRegression(C=1e4, max_iter=2000).fit(scale.transform(train.vectors[known]), train.label[known])
    return model.score(scale.transform(test.vectors[judged]), test.label[judged])


@pytest.mark.parametrize("changes", [{}, {"noise": 2.0}, {"classes": 12, "noise": 0.7}, {"classes": 2, "noise": 1.5}])
def test_as_good_as_scikit_learn(changes):
    parts = splits(n=1500, **changes)
    figures = PROBE(parts.get)
    assert figures["test/linear/accuracy"] == pytest.approx(by_scikit_learn(parts), abs=0.015)
    assert figures["test/linear/queries"] == (parts["test"].label >= 0).sum()
    assert figures["test/linear/queries"] + figures["test/linear/queries_left_out"] == 1500


def test_top_5_is_told_where_there_are_many_classes():
    figures = PROBE(splits(classes=12, noise=2.0).get)
    assert figures["test/linear/accuracy"] < figures["test/linear/accuracy@5"] < 1
    assert "test/linear/accuracy@5" not in PROBE(splits().get)


def test_settings_are_trained_as_if_alone_and_the_best_is_chosen():
    parts = splits(noise=2.0)
    rates, decays = (1e-6, 0.1), (0.0, 0.5)
    alone = [
        dataclasses.replace(PROBE, learning_rates=(rate,), weight_decays=(decay,))(parts.get)
        for rate in rates
        for decay in decays
    ]
    figures = dataclasses.replace(PROBE, learning_rates=rates, weight_decays=decays)(parts.get)
    best = figures["test/linear/setting"]
    assert best >= 2  # a rate of 1e-6 has not learnt anything in 20 epochs
    assert figures["test/linear/validation_accuracy"] == max(f["test/linear/validation_accuracy"] for f in alone)
    assert figures["test/linear/accuracy"] == pytest.approx(alone[best]["test/linear/accuracy"], abs=0.005)


def test_a_setting_that_diverges_is_not_chosen():
    figures = dataclasses.replace(PROBE, learning_rates=(1e30, 0.1))(splits().get)
    assert figures["test/linear/setting"] == 1


def test_the_seed_decides_and_labels_that_are_missing_do_not_matter():
    parts = splits(noise=2.0)
    assert PROBE(parts.get) == PROBE(parts.get)
    other = dataclasses.replace(PROBE, seed=1)(parts.get)
    assert other["test/linear/validation_accuracy"] != PROBE(parts.get)["test/linear/validation_accuracy"]
    train = parts["train"]
    known = np.flatnonzero(train.label >= 0)
    less = Embeddings(train.ids[known], train.vectors[known], label=train.label[known])
    assert PROBE((parts | {"train": less}).get) == PROBE(parts.get)


def test_offset_scale_and_constant_dimensions_change_nothing():
    parts = splits()

    def changed(part):
        vectors = np.concatenate([part.vectors * 8 - 64, np.full((len(part), 2), 3.0)], axis=1)
        return dataclasses.replace(part, vectors=vectors)

    figures, other = PROBE(parts.get), PROBE({s: changed(p) for s, p in parts.items()}.get)
    assert other["test/linear/accuracy"] == pytest.approx(figures["test/linear/accuracy"], abs=0.005)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rates", ()),
        ("learning_rates", (0.0, 0.1)),
        ("weight_decays", (-1.0,)),
        ("epochs", 0),
        ("batch_size", 0),
        ("validation", 0.0),
        ("validation", 1.0),
        ("seed", -1),
    ],
)
def test_a_mistake_is_named(field, value):
    with pytest.raises(UserError, match=f"^LinearProbe.{field}="):
        LinearProbe(**{field: value})


def test_data_that_cannot_be_judged_is_refused_before_training():
    few = Embeddings(text("abc"), np.ones((3, 2)), label=np.zeros(3, np.int32))
    with pytest.raises(UserError, match="label more of them"):
        PROBE.check({"train": few, "test": few}.get)
    with pytest.raises(UserError, match="LinearProbe needs labels, and split 'train' has none"):
        PROBE.check({"train": dataclasses.replace(few, label=None), "test": few}.get)
    with pytest.raises(UserError, match="judge on another split"):
        LinearProbe(train="test")


def test_labels_as_large_as_they_may_be_are_told_as_small_ones():
    def figures(numbers):
        parts = {
            name: dataclasses.replace(part, label=np.append(numbers, -1)[part.label])
            for name, part in splits(200).items()
        }
        return PROBE(parts.get)

    assert figures([0, 1, 2]) == figures([7, 10**6, 2**31 - 1])
