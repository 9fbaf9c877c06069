"""How the tests of the losses compare: with a loop over the formula, with eight devices, and with bad inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ssljax.sharding import BATCH_AXES, make_mesh


def normal(*shape, seed=0):
    """f32, reproducible."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def value_and_grads(loss, x):
    """The loss and its gradient with respect to each of `x`."""
    return _compiled(loss, len(x))(*x)


@functools.cache
def _compiled(loss, count):
    """A loss that is used again is compiled once."""
    return jax.jit(jax.value_and_grad(loss, tuple(range(count))))


def assert_agrees(loss, loop, *x):
    """Value and gradients of the two functions differ by 1e-5 of their size at most."""
    value, grads = value_and_grads(loss, x)
    expected, expected_grads = value_and_grads(loop, x)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def assert_one_device_equals_eight(loss, *x, axes):
    """Under jit over the mesh, with each of `x` split along its axis of `axes` (None: not at all)."""
    mesh = make_mesh(1, jax.devices()[:8])
    specs = [PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, BATCH_AXES) for axis in axes]
    split = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(x, specs, strict=True)]
    value, grads = value_and_grads(loss, x)
    with jax.set_mesh(mesh):
        split_value, split_grads = value_and_grads(loss, split)
    np.testing.assert_allclose(split_value, value, rtol=1e-5, atol=1e-6)
    for got, want in zip(split_grads, grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def assert_defined(loss, *x):
    """A finite float32 value and finite gradients; gives the value."""
    value, grads = value_and_grads(loss, x)
    assert value.dtype == jnp.float32 and np.isfinite(float(value)), value
    assert all(bool(jnp.all(jnp.isfinite(g.astype(jnp.float32)))) for g in grads)
    return float(value)


def bad_inputs(*shapes, seed=0):
    """Name → arrays of the shapes: all equal, zero, huge, of both signs, bfloat16."""
    good = [normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
    return {
        "equal": [jnp.ones(shape) for shape in shapes],
        "zero": [jnp.zeros(shape) for shape in shapes],
        "huge": [jnp.full(shape, 1e4) for shape in shapes],
        "huge, mixed": [1e4 * x for x in good],
        "bfloat16": [x.astype(jnp.bfloat16) for x in good],
        "huge bfloat16": [(1e4 * x).astype(jnp.bfloat16) for x in good],
    }
