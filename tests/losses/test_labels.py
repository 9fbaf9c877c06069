"""Labels as people have them, for every loss and figure that takes labels: accepted, refused in a sentence, or NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_loss import ALL, CLASS, CLASSES, EQUAL, ITEMS, LABELS, MEMORY, OTHERS, Z

from ssljax import losses

every = pytest.mark.parametrize("name", ALL)


def with_one(value, dtype=np.int64):
    labels = LABELS.astype(dtype)
    labels[1] = value
    return labels


@every
def test_lists_and_integers_of_every_type_are_those_of_int32(name):
    loss = ALL[name]
    expected = float(loss(Z, jnp.asarray(LABELS, jnp.int32)))
    assert np.isfinite(expected) and expected != 0
    jitted = jax.jit(loss)
    for labels in (LABELS.tolist(), LABELS.astype(np.int64), LABELS.astype(np.int8)):
        assert float(loss(Z, labels)) == expected
    np.testing.assert_allclose(float(jitted(Z, LABELS.astype(np.int64))), expected, rtol=1e-5)
    np.testing.assert_allclose(float(jitted(Z, LABELS.astype(np.int8))), expected, rtol=1e-5)
    known = np.maximum(LABELS, 0)
    np.testing.assert_allclose(float(jitted(Z, known.astype(np.uint8))), float(loss(Z, known)), rtol=1e-5)


@every
@pytest.mark.parametrize(
    "labels, sentence",
    [
        (with_one(2937985045), r"=2937985045 does not fit 32 bits: it should be at most 2147483647 \(numpy.unique"),
        (with_one(2937985045).tolist(), "=2937985045 does not fit 32 bits"),
        (with_one(4294967295).clip(0).astype(np.uint32), "=4294967295 does not fit 32 bits"),
        (with_one(-2), r"\[1.*\]=-2 should be a whole number from 0, or -1 for what to leave out"),
        (jnp.asarray(with_one(-2)), "=-2 should be"),
        (LABELS.astype(np.float32), "of type float32 should be whole numbers"),
        (with_one(0).astype(float).tolist(), "of type float64 should be whole numbers"),
        (np.full(ITEMS, np.nan), "of type float64 should be"),
        (LABELS > 0, "of type bool should be"),
        ([str(x) for x in LABELS], "of type <U2 should be"),
        ([None, *LABELS[1:].tolist()], "of type object should be"),
    ],
)
def test_what_is_no_label_is_refused_in_a_sentence(name, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        ALL[name](Z, labels)


@every
def test_traced_labels_that_are_none_make_value_and_gradient_nan(name):
    function = jax.jit(jax.value_and_grad(ALL[name]))
    wrong = [with_one(-2), with_one(2937985045), np.full(ITEMS, -7)]  # the second is -1356982251 once it is int32
    for labels in wrong + [with_one(CLASSES), with_one(2**31 - 1)] * (name in CLASS):
        value, gradient = function(Z, labels)
        assert np.isnan(value)
        assert np.all(np.isnan(gradient[:, :CLASSES])) or name == "active_triplets"  # a figure, without gradient
    assert np.isnan(jax.jit(ALL[name])(Z, with_one(0).clip(0).astype(np.uint32) + np.uint32(2**31)))


@every
@pytest.mark.parametrize("labels", [LABELS.astype(np.float32), LABELS > 0])
def test_traced_labels_of_another_type_are_refused(name, labels):
    with pytest.raises(ValueError, match="should be whole numbers"):
        jax.eval_shape(ALL[name], Z, labels)


@pytest.mark.parametrize("name", CLASS)
def test_a_class_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match=r"\[1.*\]=4 should be at most 3, or -1 for what to leave out"):
        CLASS[name](Z, with_one(CLASSES))


@pytest.mark.parametrize("name", EQUAL)
def test_large_numbers_serve_where_labels_are_only_told_apart(name):
    large = np.where(LABELS >= 0, 2**31 - 1 - LABELS, -1)
    order = np.where(LABELS >= 0, 3 - LABELS, -1)
    if "cross_batch" in name or "references" in name:
        pytest.skip("is compared with other labels")
    np.testing.assert_allclose(EQUAL[name](Z, large), EQUAL[name](Z, order), rtol=1e-5)


@every
def test_labels_of_another_length_or_more_axes_are_refused(name):
    for labels in (LABELS[:-1], LABELS.tolist()[:-1], LABELS[:, None]):
        with pytest.raises(ValueError, match="of shape"):
            ALL[name](Z, labels)


@every
def test_lists_of_vectors_are_arrays(name):
    if name == "masked_attributes":
        pytest.skip("takes a list of arrays")
    assert float(ALL[name](np.asarray(Z).tolist(), LABELS)) == float(ALL[name](Z, LABELS))
    for wrong in ([[1.0, 2.0], [3.0]], [["a"] * 5] * ITEMS, [[None] * 5] * ITEMS):
        with pytest.raises(ValueError, match="should be an array"):
            ALL[name](wrong, LABELS)


def test_places_of_triplets_beyond_the_batch_are_refused_or_nan():
    loss = partial(losses.triplet_from_indices, margin=5.0)
    assert float(loss(np.asarray(Z).tolist(), [[0, 1, 2], [-1, 0, 0]])) == float(loss(Z, jnp.array([[0, 1, 2]]))) > 0
    for value, sentence in ((ITEMS, r"triplets\[0, 2\]=8 should be at most 7"), (-2, r"triplets\[0, 2\]=-2 should be")):
        with pytest.raises(ValueError, match=sentence):
            loss(Z, [[0, 1, value]])
        assert np.isnan(jax.jit(loss)(Z, np.array([[0, 1, value]])))


@pytest.mark.parametrize("loss", OTHERS)
def test_other_losses_take_lists_too(loss):
    lists = np.asarray(Z).tolist(), np.asarray(MEMORY).tolist()
    assert float(loss(*lists)) == float(loss(*map(jnp.asarray, lists)))
    with pytest.raises(ValueError, match="should be an array"):
        loss([["a", "b"]], [["a", "b"]])
