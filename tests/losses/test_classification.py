"""Cross-entropy of attributes against a loop; missing ones; bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_agrees, assert_defined, assert_one_device_equals_eight, bad_inputs, normal

from ssljax.losses import masked_attributes


def attributes_loop(logits, attributes):
    total = 0.0
    for a, scores in enumerate(logits):
        rows = [
            -jnp.log(jnp.exp(scores[b, attributes[b, a]]) / jnp.sum(jnp.exp(scores[b])))
            for b in range(len(attributes))
            if attributes[b, a] != -1
        ]
        total += sum(rows) / len(rows) if rows else 0.0
    return total / len(logits)


def inputs(batch, values, *, seed=0):
    """Logits, and attributes of which a third are missing."""
    rng = np.random.default_rng(seed)
    attributes = np.stack([rng.integers(0, v, batch) for v in values], axis=1)
    attributes[rng.random(attributes.shape) < 0.3] = -1
    return [normal(batch, v, seed=seed + i) for i, v in enumerate(values)], attributes.astype(np.int32)


@pytest.mark.parametrize("batch, values", [(6, (3, 5)), (1, (2,)), (4, (2, 7, 3))])
def test_masked_attributes_equals_the_loop(batch, values):
    logits, attributes = inputs(batch, values)
    attributes[0, 0] = 1
    attributes[:, -1] = attributes[:, -1] if len(values) == 1 else -1  # an attribute that no item has
    assert_agrees(
        lambda *x: masked_attributes(x, jnp.asarray(attributes)),
        lambda *x: attributes_loop(x, attributes) + 0 * jnp.sum(x[-1]),
        *logits,
    )


def test_items_without_the_attribute_count_for_nothing():
    logits, attributes = inputs(6, (3, 5))
    attributes[:3, 0], attributes[3:, 0] = -1, 2
    value, (grad, _) = jax.value_and_grad(masked_attributes)(logits, attributes)
    assert not np.any(grad[:3]) and np.all(np.any(grad[3:], axis=1))
    other = [logits[0].at[:3].set(1e4), logits[1]]
    np.testing.assert_array_equal(masked_attributes(other, attributes), value)


def test_nothing_known_gives_zero():
    logits = inputs(4, (3, 5))[0]
    assert assert_defined(lambda *x: masked_attributes(x, jnp.full((4, 2), -1)), *logits) == 0


def test_one_device_equals_eight():
    logits, attributes = inputs(16, (3, 5))
    loss = lambda *x: masked_attributes(x, attributes)  # noqa: E731
    assert_one_device_equals_eight(loss, *logits, axes=(0, 0))


def test_batch_order_does_not_matter():
    logits, attributes = inputs(8, (3, 5))
    order = np.array([3, 1, 4, 0, 2, 7, 6, 5])
    same = masked_attributes([x[order] for x in logits], attributes[order])
    np.testing.assert_allclose(same, masked_attributes(logits, attributes), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_bad_inputs_give_a_defined_value_and_finite_gradients(batch):
    attributes = inputs(batch, (3, 5))[1]
    loss = lambda *x: masked_attributes(x, attributes)  # noqa: E731
    for x in bad_inputs((batch, 3), (batch, 5)).values():
        assert_defined(loss, *x)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        masked_attributes([normal(4, 3)], jnp.zeros((4, 2), int))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 1\)"):
        masked_attributes([normal(4, 3)], jnp.zeros((5, 1), int))
