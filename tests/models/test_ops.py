"""The fast forms of the operations equal the plain ones in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import ops

# batch, height, width, channels, features, kernel size, stride
SHAPES = [
    (2, 8, 8, 64, 24, 3, 1),  # Winograd
    (2, 7, 5, 64, 8, 3, 1),  # and on an odd map
    (3, 2, 2, 64, 64, 3, 1),
    (2, 1, 1, 64, 16, 3, 1),
    (2, 6, 6, 3, 8, 3, 1),  # too few channels for Winograd
    (2, 9, 8, 4, 8, 3, 2),
    (2, 9, 8, 64, 8, 3, 2),
    (2, 4, 4, 8, 8, 3, 2),  # a map smaller than the kernel
    (2, 2, 2, 8, 8, 3, 1),
    (2, 1, 1, 8, 8, 3, 2),
    (2, 6, 6, 8, 8, 1, 1),
    (2, 7, 6, 8, 4, 1, 2),
    (2, 16, 16, 3, 8, 7, 2),
    (2, 9, 9, 3, 8, 7, 2),
    (2, 6, 6, 4, 4, 5, 1),
]


def _inputs(shape, dtype):
    batch, height, width, channels, features, size, stride = shape
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, channels))
    kernel = rng.normal(size=(size, size, channels, features)) / size
    g = rng.normal(size=(batch, -(-height // stride), -(-width // stride), features))
    return [jnp.asarray(a, dtype) for a in (x, kernel, g)]


def _value_and_gradients(conv, stride):
    def f(x, kernel, g):
        y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride), x, kernel)
        return y, *vjp(g)

    return jax.jit(f)


def _assert_close(a, b, tolerance):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
def test_conv(shape, dtype, tolerance):
    inputs = _inputs(shape, dtype)
    fast = _value_and_gradients(ops._cpu_conv, shape[-1])(*inputs)
    plain = _value_and_gradients(ops._plain_conv, shape[-1])(*[a.astype(jnp.float32) for a in inputs])
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        _assert_close(a, b, tolerance)
