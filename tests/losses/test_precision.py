"""Low temperatures and pairs that agree: the value and the gradient must not be lost in a difference of large sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.losses import in_batch_info_nce, info_nce, l2_normalise, nt_xent, re_ssl


def pair(batch=64, features=32, noise=0.3):
    rng = np.random.default_rng(0)
    z1 = rng.standard_normal((batch, features))
    return z1, z1 + noise * rng.standard_normal((batch, features))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def in_float64(z1, z2, temperature, within):
    """The mean cross-entropy, and its gradient by the unit vectors of z1, in NumPy's float64."""
    a, b = unit(z1), unit(z2)
    n = len(a)
    z = np.concatenate([a, b]) if within else b
    rows = z if within else a
    x = rows @ z.T / temperature
    target = np.roll(np.arange(2 * n), -n) if within else np.arange(n)
    if within:
        np.fill_diagonal(x, -np.inf)
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    value = -np.log(p[np.arange(len(p)), target]).mean()
    g = (p - np.eye(len(z))[target]) / len(p) / temperature
    return value, (((g + g.T) @ z)[:n] if within else g @ z)


@pytest.mark.parametrize("temperature", [0.05, 0.03])
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-4), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("loss, within", [(nt_xent, True), (in_batch_info_nce, False)])
def test_gradients_are_those_of_float64(loss, within, dtype, tolerance, temperature):
    z1, z2 = pair()
    value, expected = in_float64(z1, z2, temperature, within)
    a, b = jnp.asarray(unit(z1), jnp.float32), jnp.asarray(unit(z2), jnp.float32)
    got, grad = jax.value_and_grad(lambda a: loss(a, b, temperature=temperature, dtype=dtype))(a)
    tangent = expected - np.sum(expected * unit(z1), axis=1, keepdims=True) * unit(z1)  # what normalising lets through
    np.testing.assert_allclose(got, value, rtol=5 * tolerance)
    assert np.linalg.norm(grad - tangent) < tolerance * np.linalg.norm(tangent)


def test_a_queue_of_length_zero_counts_for_nothing():
    z1, z2 = (jnp.asarray(x, jnp.float32) for x in pair())
    queue = jnp.zeros((0, z1.shape[1]))
    value, grad = jax.value_and_grad(lambda z: info_nce(z, z2, queue, temperature=0.1))(z1)
    assert float(value) == 0 and not np.any(grad)
    temperatures = {"student_temperature": 0.1, "teacher_temperature": 0.04}
    assert float(re_ssl(z1, z2, queue, **temperatures)) == 0


def test_float16_is_refused():
    with pytest.raises(ValueError, match="float16"):
        l2_normalise(jnp.ones((2, 3), jnp.float16))
