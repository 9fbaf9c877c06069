"""Attributes from neighbours beside a loop over the definition, and what they make of messy columns."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.data.columns import text
from ssljax.evaluation import Attributes, Embeddings, predict_attribute
from ssljax.evaluation.evaluators.attributes import NeighbourVote, calibration_error, coverage_accuracy, key
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError


def loop(queries, gallery, values, k, temperature):
    """Shares of each query, value → share, vote by vote."""
    there = [j for j, value in enumerate(values) if value]
    result = []
    for q in queries / np.linalg.norm(queries, axis=1, keepdims=True):
        cosines = {j: float(gallery[j] / np.linalg.norm(gallery[j]) @ q) for j in there}
        near = sorted(there, key=lambda j: (-cosines[j], j))[:k]
        share = {value: sum(values[j] == value for j in there) / len(there) for value in values if value}
        for j in near:
            share[values[j]] += np.exp((cosines[j] - cosines[near[0]]) / temperature)
        total = sum(share.values())
        result.append({value: s / total for value, s in share.items()})
    return result


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 50]), st.sampled_from([0.02, 0.1, 100.0]))
def test_equals_the_loop(seed, k, temperature):
    rng = np.random.default_rng(seed)
    gallery, queries = rng.standard_normal((12, 3), np.float32), rng.standard_normal((5, 3), np.float32)
    values = rng.choice(["red", "blue", "green", ""], 12).tolist()
    values[0] = "red"
    told = predict_attribute(queries, gallery, values, k=k, temperature=temperature)
    for value, confidence, shares in zip(
        told.values, told.confidence, loop(queries, gallery, values, k, temperature), strict=True
    ):
        assert confidence == pytest.approx(max(shares.values()), rel=1e-4)
        assert shares[value] == pytest.approx(max(shares.values()), rel=1e-4)


def test_spellings_are_one_value_and_missing_ones_do_not_vote():
    values = ["T-Shirt", "t shirt ", "T-Shirt", "N/A", "", "unknown", "Dress", "++", "n.a."]
    vote = NeighbourVote.of(np.eye(9, dtype=np.float32), values)
    assert vote.names == ("++", "Dress", "T-Shirt")
    assert vote.codes(["T SHIRT", "++", "none", "", "NA", "+"]).tolist() == [2, 0, -2, -1, -1, -2]
    assert len(vote.labels) == 5
    assert key("E\u0301te\u0301") == key("\u00e9t\u00e9") and key("XL") != key("L")


def test_a_misspelling_is_outvoted_and_a_tie_goes_to_the_frequent_value():
    gallery = normalise(np.array([[1, 0.1], [1, -0.1], [1, 0], [0, 1], [0, 1]], np.float32))
    assert predict_attribute(gallery[2:3], gallery, ["red", "red", "rad", "blue", "blue"], k=3).values[0] == "red"
    twins = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert predict_attribute(twins[:1], twins, ["a", "b", "b"], k=2).values[0] == "b"


def test_lengths_and_types_of_vectors_do_not_matter():
    rng = np.random.default_rng(0)
    gallery, queries = rng.standard_normal((20, 4)), rng.standard_normal((5, 4))
    values = rng.choice(["x", "y"], 20)
    one = predict_attribute(queries, gallery, values)
    other = predict_attribute((queries * 9).astype(np.float32), gallery * rng.uniform(1, 5, (20, 1)), values)
    assert one.values.tolist() == other.values.tolist()
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-4)


def noisy(n, seed, wrong=0.3, classes=3):
    """Well-separated classes, of whose values a share is replaced at random: neighbours agree, and yet often err."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    vectors = np.eye(classes, dtype=np.float32)[truth] + 0.05 * rng.standard_normal((n, classes), np.float32)
    told = np.where(rng.random(n) < wrong, rng.integers(0, classes, n), truth)
    return vectors, text(f"value {t}" for t in told)


def test_calibration_makes_confidence_the_share_that_is_right():
    gallery, values = noisy(400, 0, wrong=0.0)
    validation, test = noisy(1000, 1, wrong=0.6), noisy(1000, 2, wrong=0.6)
    vote = NeighbourVote.of(gallery, values)
    scale = vote.fit_scale(validation[0], vote.codes(validation[1]))
    assert scale > 1  # it was too sure
    errors = []
    for s in (1.0, scale):
        codes, confidence = vote.predict(test[0], s)
        errors.append(calibration_error(confidence, codes == vote.codes(test[1])))
    assert errors[1] < 0.05 < 0.3 < errors[0]
    told = predict_attribute(test[0], gallery, values, validation=validation)
    assert told.confidence.mean() == pytest.approx(0.6, abs=0.05)


def test_figures_by_hand():
    confidence, right = np.array([0.9, 0.9, 0.8, 0.2]), np.array([True, False, True, False])
    coverage, accuracy = coverage_accuracy(confidence, right)
    np.testing.assert_allclose(coverage, [2 / 4, 3 / 4, 1])
    np.testing.assert_allclose(accuracy, [1 / 2, 2 / 3, 2 / 4])
    # bins of 1/15: two of .9 together (|.5 - .9|), .8 (|1 - .8|), .2 (|0 - .2|)
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.4 + 0.2 + 0.2) / 4)
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.5, 1.0]), st.booleans()), min_size=1))
def test_the_curve_equals_the_loop(answers):
    confidence, right = np.array([c for c, _ in answers]), np.array([r for _, r in answers])
    expected = []
    for least in sorted(set(confidence), reverse=True):
        given = confidence >= least
        expected.append((given.mean(), right[given].mean()))
    np.testing.assert_allclose(np.stack(coverage_accuracy(confidence, right), axis=1), expected)


# the evaluator


def split(n, seed, **changes):
    vectors, values = noisy(n, seed, wrong=0.1)
    return Embeddings(text(f"{seed}/{i}" for i in range(n)), vectors, {"colour": values} | changes)


@pytest.fixture(scope="module")
def parts():
    sizes = {"train": 300, "val": 200, "test": 100}
    return {name: split(n, seed) for seed, (name, n) in enumerate(sizes.items())}


EVALUATOR = Attributes(columns=("colour",), shares=(0.1, 1.0), linear_steps=50)


def test_figures(parts):
    EVALUATOR.check(parts.get)
    figures = EVALUATOR(parts.get)
    own = {name.removeprefix("test/attributes/colour/"): value for name, value in figures.items()}
    told = predict_attribute(parts["test"].vectors, parts["train"].vectors, parts["train"].columns["colour"])
    right = told.values == parts["test"].columns["colour"]
    assert own["accuracy"] == own["accuracy@100%"] == pytest.approx(right.mean())
    assert own["ece_uncalibrated"] == pytest.approx(calibration_error(told.confidence, right))
    assert own["accuracy"] > 0.85 and own["linear@100%"] > 0.85 and own["majority"] < 0.5
    assert 0 < own["coverage@accuracy=0.9"] <= 1
    assert own["queries"] == 100 and own["queries_left_out"] == own["queries_unknown"] == 0
    assert own["values"] == 3 and own["voters"] == 300
    assert figures == EVALUATOR(parts.get)


def test_missing_and_unknown_values_are_counted(parts):
    messy = parts["test"].columns["colour"].copy()
    messy[:10], messy[10:30] = "n/a", "mauve"
    test = dataclasses.replace(parts["test"], columns={"colour": messy})
    figures = EVALUATOR((parts | {"test": test}).get)
    assert figures["test/attributes/colour/queries"] == 90
    assert figures["test/attributes/colour/queries_left_out"] == 10
    assert figures["test/attributes/colour/queries_unknown"] == 20
    for method in ("accuracy", "linear@100%"):  # asked, and always wrong
        assert figures[f"test/attributes/colour/{method}"] <= 70 / 90


def test_fewer_labels_are_among_the_more_and_the_rest_does_not_matter(parts):
    vote = EVALUATOR._voters("colour", parts.get)
    few, more = EVALUATOR._known(vote, 0.1), EVALUATOR._known(vote, 0.5)
    assert len(few) == 30 and set(few) < set(more)
    hidden = parts["train"].columns["colour"].copy()
    hidden[np.setdiff1d(np.arange(300), few)] = ""
    train = dataclasses.replace(parts["train"], columns={"colour": hidden})
    all_there = dataclasses.replace(EVALUATOR, shares=(1.0,))((parts | {"train": train}).get)
    figures = EVALUATOR(parts.get)
    for method in ("accuracy", "linear"):
        name = f"test/attributes/colour/{method}@"
        assert figures[f"{name}10%"] == all_there[f"{name}100%"]


def test_without_validation_and_classifier(parts):
    quick = Attributes(columns=("colour",), validation=None, linear_steps=0, shares=())
    figures = quick({name: parts[name] for name in ("train", "test")}.__getitem__)
    assert figures["test/attributes/colour/scale"] == 1
    assert figures["test/attributes/colour/ece"] == figures["test/attributes/colour/ece_uncalibrated"]
    assert not any("linear" in name or "%" in name for name in figures)


def with_column(parts, splits, values):
    """`parts` with another column of colours in these splits."""
    return parts | {
        s: dataclasses.replace(parts[s], columns={"colour": text([values] * len(parts[s]))}) for s in splits
    }


@pytest.mark.parametrize(
    "splits, value, sentence",
    [
        (["train"], "", r"'colour' of split 'train'.*all 300.*missing"),
        (["train"], "Red", r"'colour' is always 'Red' in split 'train'"),
        (["test"], "n/a", r"'colour' is missing in all items of split 'test'"),
        (["val"], "", r"'colour' is missing in all items of split 'val'"),
    ],
)
def test_columns_that_cannot_be_told(parts, splits, value, sentence):
    with pytest.raises(UserError, match=sentence):
        EVALUATOR.check(with_column(parts, splits, value).get)


def test_a_column_that_is_not_there_and_too_few_labels(parts):
    with pytest.raises(UserError, match=r"'color' is not a column of the data: did you mean 'colour'"):
        Attributes(columns=("color",)).check(parts.get)
    with pytest.raises(UserError, match=r"shares=\(0\.01, 1\.0\): 0\.01 of the 300 items with 'colour'.*larger"):
        dataclasses.replace(EVALUATOR, shares=(0.01, 1.0)).check(parts.get)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"columns": ()}, "columns"),
        ({"columns": ("a", "a")}, "each once"),
        ({"columns": "colour"}, "columns='colour' must be a tuple"),
        ({"k": 0}, r"Attributes\.k=0"),
        ({"temperature": 0.0}, "temperature"),
        ({"shares": (0.0,)}, "shares"),
        ({"accuracies": (1.5,)}, "accuracies"),
        ({"linear_steps": -1}, "linear_steps"),
        ({"gallery": "test"}, "vote for itself"),
        ({"validation": "test"}, "vote for itself"),
    ],
)
def test_bad_fields(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        Attributes(**({"columns": ("colour",)} | wrong))


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"queries": np.ones((2, 3))}, "queries have 3 dimensions"),
        ({"gallery": np.full((4, 2), np.nan)}, "gallery hold NaN"),
        ({"values": ["a"]}, "there are 1 for a gallery of 4"),
        ({"values": ["", "-", "NA", "?"]}, "all 4 of the gallery's are missing"),
        ({"k": 0}, "k=0"),
        ({"temperature": 0}, "temperature=0"),
        ({"validation": (np.ones((2, 2)), ["", ""])}, "validation: all values are missing"),
        ({"validation": (np.ones((2, 2)), ["a"])}, "validation"),
    ],
)
def test_the_function_refuses_what_does_not_fit(change, sentence):
    arguments = {"queries": np.ones((2, 2)), "gallery": np.ones((4, 2)), "values": ["a", "b", "a", "b"]} | change
    with pytest.raises(UserError, match=sentence):
        predict_attribute(**arguments)


def test_signs_that_mean_something_tell_values_apart():
    different = ["C", "C++", "C#", "-5", "5", "XL", "XL+", "A-B", "AB"]
    assert len({key(value) for value in different}) == len(different)
    assert key("\u22125") == key("-5") and key("T-Shirt ") == key("t shirt") and key("red+blue") == key("red blue")
    assert key("5-6") == "5 6" and key("1.5") == "1 5"


def test_none_is_missing_and_nothing_answers_nothing():
    gallery = np.eye(4, dtype=np.float32)
    told = predict_attribute(gallery[:1], gallery, ["red", None, None, float("nan")])
    assert told.values.tolist() == ["red"]
    with pytest.raises(UserError, match="all 4 of the gallery's are missing"):
        predict_attribute(gallery[:1], gallery, [None] * 4)
    coverage, accuracy = coverage_accuracy(np.empty(0), np.empty(0, bool))
    assert not len(coverage) and not len(accuracy)
