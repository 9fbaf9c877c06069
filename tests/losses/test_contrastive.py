"""InfoNCE and NT-Xent against loops over the papers' formulas, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.losses import embedding_std, info_nce, l2_normalise, nt_xent


def vectors(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def info_nce_loop(anchor, positive, queue, temperature):
    anchor, positive, queue = unit(anchor), unit(positive), unit(queue)
    rows = []
    for q, k in zip(anchor, positive, strict=True):
        numerator = jnp.exp(q @ k / temperature)
        rows.append(-jnp.log(numerator / (numerator + sum(jnp.exp(q @ n / temperature) for n in queue))))
    return sum(rows) / len(rows)


def nt_xent_loop(z1, z2, temperature):
    z, n = unit(jnp.concatenate([z1, z2])), len(z1)
    rows = []
    for i in range(2 * n):
        others = sum(jnp.exp(z[i] @ z[j] / temperature) for j in range(2 * n) if j != i)
        rows.append(-jnp.log(jnp.exp(z[i] @ z[(i + n) % (2 * n)] / temperature) / others))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("batch, keys, features, temperature", [(4, 6, 3, 0.5), (3, 1, 8, 0.2), (1, 5, 2, 1.0)])
def test_info_nce_equals_the_loop(batch, keys, features, temperature):
    x = vectors(batch, features), vectors(batch, features, seed=1), vectors(keys, features, seed=2)
    value, grads = jax.value_and_grad(lambda *x: info_nce(*x, temperature=temperature), (0, 1, 2))(*x)
    expected, expected_grads = jax.value_and_grad(lambda *x: info_nce_loop(*x, temperature), (0, 1, 2))(*x)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("batch, features, temperature", [(4, 3, 0.5), (2, 8, 0.2), (1, 4, 0.5)])
def test_nt_xent_equals_the_loop(batch, features, temperature):
    x = vectors(batch, features), vectors(batch, features, seed=1)
    value, grads = jax.value_and_grad(lambda *x: nt_xent(*x, temperature=temperature), (0, 1))(*x)
    expected, expected_grads = jax.value_and_grad(lambda *x: nt_xent_loop(*x, temperature), (0, 1))(*x)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    for got, want in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_places_not_valid_count_for_nothing():
    anchor, positive, queue = vectors(4, 3), vectors(4, 3, seed=1), vectors(6, 3, seed=2)
    valid = jnp.array([True, False, True, False, False, True])
    masked = info_nce(anchor, positive, queue, temperature=0.2, valid=valid)
    np.testing.assert_allclose(masked, info_nce(anchor, positive, queue[valid], temperature=0.2), rtol=1e-6)


def test_empty_queue_gives_zero_and_a_finite_gradient():
    loss = lambda a: info_nce(a, vectors(4, 3), jnp.zeros((6, 3)), temperature=0.2, valid=jnp.zeros(6, bool))  # noqa: E731
    value, grad = jax.value_and_grad(loss)(vectors(4, 3, seed=1))
    assert float(value) == 0.0
    np.testing.assert_array_equal(grad, np.zeros((4, 3)))


@pytest.mark.parametrize("fill", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_extreme_inputs_stay_finite(fill, dtype):
    x = jnp.full((4, 3), fill, dtype)
    for loss in (lambda a: nt_xent(a, x, temperature=0.01), lambda a: info_nce(a, x, x, temperature=0.01)):
        value, grad = jax.value_and_grad(loss)(x)
        assert np.isfinite(float(value)) and value.dtype == jnp.float32
        assert bool(jnp.all(jnp.isfinite(grad)))


def test_batch_order_views_and_rotations_do_not_matter():
    z1, z2 = vectors(5, 4), vectors(5, 4, seed=1)
    order, rotation = np.array([3, 1, 4, 0, 2]), np.linalg.qr(vectors(4, 4, seed=3))[0]
    base = nt_xent(z1, z2, temperature=0.2)
    for same in [(z1[order], z2[order]), (z2, z1), (z1 @ rotation, z2 @ rotation)]:
        np.testing.assert_allclose(nt_xent(*same, temperature=0.2), base, rtol=1e-5)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 3\)"):
        nt_xent(vectors(4, 3), vectors(5, 3), temperature=0.2)
    with pytest.raises(ValueError, match=r"\(6, 2\).*\(4, 3\)"):
        info_nce(vectors(4, 3), vectors(4, 3), vectors(6, 2), temperature=0.2)


def test_l2_normalise_is_unit_and_its_gradient_at_zero_finite():
    np.testing.assert_allclose(jnp.linalg.norm(l2_normalise(vectors(5, 3) * 1e3), axis=1), np.ones(5), rtol=1e-6)
    assert bool(jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(l2_normalise(x)))(jnp.zeros((2, 3))))))


def test_embedding_std_is_one_when_spread_and_zero_when_collapsed():
    assert float(embedding_std(vectors(4096, 16))) == pytest.approx(1.0, abs=0.03)
    assert float(embedding_std(jnp.ones((8, 16)))) == pytest.approx(0.0, abs=1e-6)
