"""What tests of losses of labelled embeddings share: inputs, and a loss's value, gradients and traffic on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from traffic import sent

from ssljax.sharding import batch_sharding, make_mesh, replicated

STEP = 1e-6


def vectors(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def classes(size, number, seed=0, left_out=0):
    """i32[size], classes 0 .. number - 1 at random, and the first `left_out` of them -1."""
    labels = np.random.default_rng(seed).integers(0, number, size)
    labels[:left_out] = -1
    return jnp.asarray(labels, jnp.int32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def loop_and_gradients(loop, *arrays):
    """`loop(*arrays)` in float64 and its gradients by central differences: right whatever the loop branches on."""
    arrays = [np.array(x, np.float64) for x in arrays]
    gradients = [np.zeros_like(x) for x in arrays]
    for x, gradient in zip(arrays, gradients, strict=True):
        for place in np.ndindex(x.shape):
            kept = x[place]
            x[place] = kept + STEP
            above = loop(*arrays)
            x[place] = kept - STEP
            gradient[place] = (above - loop(*arrays)) / (2 * STEP)
            x[place] = kept
    return loop(*arrays), gradients


def value_and_gradients(loss, labels, *arrays):
    """`loss(*arrays, labels)` and its gradients by all arrays."""
    return _compiled(loss, len(arrays))(*arrays, labels)


@functools.cache
def _compiled(loss, arrays):
    """Kept, so that a loss compiles once for all tests with inputs of the same shapes."""
    return jax.jit(jax.value_and_grad(loss, tuple(range(arrays))))


def on_mesh(loss, labels, *arrays, split=True):
    """The same with all split over eight devices (or whole on each), and the shapes of what the devices send."""
    mesh = make_mesh()
    sharding = batch_sharding(mesh) if split else replicated(mesh)
    with jax.set_mesh(mesh):
        labels, *arrays = jax.device_put((labels, *arrays), sharding)

        def loss_of(labels, *arrays):  # labels are an argument: as a constant they would not be split
            return loss(*arrays, labels)

        function = jax.jit(jax.value_and_grad(loss_of, tuple(range(1, 1 + len(arrays)))))
        compiled = function.lower(labels, *arrays).compile()
        return *function(labels, *arrays), {array.shape for array in sent(compiled)}


def assert_close(got, expected, tolerance=1e-5):
    """Values to a relative `tolerance`, gradients to one of the largest gradient (or of 1, if that is larger)."""
    np.testing.assert_allclose(got[0], expected[0], rtol=tolerance, atol=tolerance)
    for x, y in zip(got[1], expected[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1, float(jnp.max(jnp.abs(y)))))


def temporary_bytes(loss, labels, *arrays):
    """What a value with its gradients needs besides arguments and results."""
    function = jax.jit(jax.value_and_grad(loss, tuple(range(len(arrays)))))
    return function.lower(*arrays, labels).compile().memory_analysis().temp_size_in_bytes
