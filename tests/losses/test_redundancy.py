"""Barlow Twins and VICReg against loops over the papers' formulas, their invariances, and bad inputs."""

import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_agrees, assert_defined, assert_one_device_equals_eight, bad_inputs, normal

from ssljax.losses import barlow_twins, vicreg

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


def barlow_loop(z1, z2, lambd):
    loss = 0.0
    deviation1, deviation2 = [[x - jnp.mean(x) for x in z.T] for z in (z1, z2)]
    for i, a in enumerate(deviation1):
        for j, b in enumerate(deviation2):
            c = jnp.mean(a * b) / jnp.sqrt((jnp.mean(a * a) + 1e-5) * (jnp.mean(b * b) + 1e-5))
            loss += (1 - c) ** 2 if i == j else lambd * c**2
    return loss


def vicreg_loop(z1, z2, invariance, variance, covariance):
    batch, features = z1.shape
    loss = invariance * sum(jnp.mean((a - b) ** 2) for a, b in zip(z1, z2, strict=True)) / batch
    for z in (z1, z2):
        columns = [x - jnp.mean(x) for x in z.T]
        for i, a in enumerate(columns):
            loss += variance / 2 / features * jnp.maximum(0, 1 - jnp.sqrt(a @ a / (batch - 1) + 1e-4))
            for j, b in enumerate(columns):
                if j != i:
                    loss += covariance / features * (a @ b / (batch - 1)) ** 2
    return loss


LOSSES = {
    "barlow_twins": lambda z1, z2: barlow_twins(z1, z2, lambd=5e-3),
    "vicreg": lambda z1, z2: vicreg(z1, z2, **WEIGHTS),
}


@pytest.mark.parametrize("batch, features, lambd", [(6, 3, 5e-3), (2, 5, 0.1), (12, 2, 1.0)])
def test_barlow_twins_equals_the_loop(batch, features, lambd):
    z1, z2 = normal(batch, features), 2 + 3 * normal(batch, features, seed=1)
    assert_agrees(lambda *z: barlow_twins(*z, lambd=lambd), lambda *z: barlow_loop(*z, lambd), z1, z2)


@pytest.mark.parametrize("batch, features, weights", [(6, 3, (25, 25, 1)), (2, 5, (1, 0, 0)), (9, 2, (0.5, 1, 2))])
def test_vicreg_equals_the_loop(batch, features, weights):
    weights = dict(zip(WEIGHTS, weights, strict=True))
    z1, z2 = normal(batch, features), 0.5 + 0.7 * normal(batch, features, seed=1)
    assert_agrees(lambda *z: vicreg(*z, **weights), lambda *z: vicreg_loop(*z, **weights), z1, z2)


@pytest.mark.parametrize("name", LOSSES)
def test_one_device_equals_eight(name):
    assert_one_device_equals_eight(LOSSES[name], normal(16, 3), normal(16, 3, seed=1), axes=(0, 0))


@pytest.mark.parametrize("name", LOSSES)
def test_batch_order_feature_order_and_views_do_not_matter(name):
    loss, z1, z2 = LOSSES[name], normal(7, 4), normal(7, 4, seed=1)
    rows, columns = np.array([3, 1, 4, 0, 2, 6, 5]), np.array([2, 0, 3, 1])
    for same in [(z2, z1), (z1[rows], z2[rows]), (z1[:, columns], z2[:, columns]), (z1 + 5, z2 + 5)]:
        np.testing.assert_allclose(loss(*same), loss(z1, z2), rtol=1e-5)


def test_barlow_twins_does_not_see_scale_or_shift_of_a_view():
    z1, z2 = normal(50, 4), normal(50, 4, seed=1)
    same = barlow_twins(100 * z1 - 3, 7 * z2, lambd=0.1)
    np.testing.assert_allclose(same, barlow_twins(z1, z2, lambd=0.1), rtol=1e-3)  # but for the epsilon


def test_equal_views_with_independent_features_cost_nothing():
    z = jnp.asarray([[1, 1], [1, -1], [-1, 1], [-1, -1]], jnp.float32) * 2
    assert float(barlow_twins(z, z, lambd=1.0)) == pytest.approx(0, abs=1e-8)
    assert float(vicreg(z, z, **WEIGHTS)) == pytest.approx(0, abs=1e-8)


def test_collapsed_embeddings_cost_the_most_that_variance_can():
    z = jnp.ones((4, 3))
    assert float(barlow_twins(z, z, lambd=1.0)) == pytest.approx(3)
    assert float(vicreg(z, z, **WEIGHTS)) == pytest.approx(25 * (1 - 0.01), rel=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_bad_inputs_give_a_defined_value_and_finite_gradients(name, batch):
    for x in bad_inputs((batch, 3), (batch, 3)).values():
        assert_defined(LOSSES[name], *x)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_do_not_fit_are_named(name):
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        LOSSES[name](normal(4, 3), normal(4, 2))
