"""The queue: order, wrap-around, validity, and that a state of another layout cannot arise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.queue import empty_queue, enqueue
from ssljax.types import UserError


def filled(batches, size=6, batch=2):
    queue = empty_queue(size, batch, 3)
    for value in range(1, batches + 1):
        queue = jax.jit(enqueue)(queue, jnp.full((batch, 3), value, jnp.float32))
    return queue


def values(queue):
    """The number of the batch in each valid place of `flat`."""
    return sorted(np.asarray(queue.flat[:, 0])[np.asarray(queue.valid)].astype(int).tolist())


@pytest.mark.parametrize(
    "batches, expected", [(0, []), (1, [1, 1]), (2, [1, 1, 2, 2]), (3, [1, 1, 2, 2, 3, 3]), (5, [3, 3, 4, 4, 5, 5])]
)
def test_holds_the_last_batches(batches, expected):
    queue = filled(batches)
    assert values(queue) == expected
    assert float(queue.fill) == pytest.approx(len(expected) / 6)


def test_oldest_batch_is_replaced():
    before, after = filled(4), filled(5)
    assert set(values(before)) - set(values(after)) == {2}


def test_no_gradient_goes_through():
    gradient = jax.grad(lambda keys: jnp.sum(enqueue(empty_queue(6, 2, 3), keys).flat))(jnp.ones((2, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


@pytest.mark.parametrize("size, batch, hint", [(100, 64, "64 or 128"), (10, 64, "try 64"), (65, 64, "64 or 128")])
def test_size_must_be_a_multiple_of_the_batch(size, batch, hint):
    with pytest.raises(UserError, match=f"queue_size={size} is not a multiple of batch_size={batch}.*{hint}"):
        empty_queue(size, batch, 8)
