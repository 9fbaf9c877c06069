"""The variational autoencoder's loss against a loop, and against KL by sampling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_agrees, assert_defined, assert_one_device_equals_eight, bad_inputs, normal

from ssljax.losses import vae


def vae_loop(reconstruction, image, mean, log_variance, beta):
    loss = 0.0
    for b in range(len(image)):
        loss += jnp.sum((image[b] - reconstruction[b]) ** 2) / 2
        for m, v in zip(mean[b], jnp.exp(log_variance[b]), strict=True):
            loss -= beta * (1 + jnp.log(v) - m**2 - v) / 2
    return loss / len(image)


def inputs(batch, *, pixels=(2, 3), latent=4):
    shapes = [(batch, *pixels)] * 2 + [(batch, latent)] * 2
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    "batch, pixels, latent, beta", [(3, (2, 2, 3), 4, 1.0), (1, (5,), 2, 4.0), (4, (2, 3), 1, 0.0)]
)
def test_vae_equals_the_loop(batch, pixels, latent, beta):
    x = inputs(batch, pixels=pixels, latent=latent)
    assert_agrees(lambda *x: vae(*x, beta=beta), lambda *x: vae_loop(*x, beta), *x)


def test_kl_is_that_of_samples():
    mean, log_variance = jnp.array([[0.5, -1.0]]), jnp.array([[0.3, -0.7]])
    std = np.exp(np.asarray(log_variance[0]) / 2)
    noise = np.random.default_rng(0).normal(size=(200_000, 2))
    sample = np.asarray(mean[0]) + std * noise
    expected = np.mean(np.sum(-(noise**2) / 2 - np.log(std) + sample**2 / 2, axis=1))
    image = jnp.zeros((1, 1))
    assert float(vae(image, image, mean, log_variance, beta=1.0)) == pytest.approx(expected, rel=0.02)


def test_perfect_reconstruction_from_the_prior_costs_nothing():
    image, zero = normal(3, 4), jnp.zeros((3, 2))
    assert float(vae(image, image, zero, zero, beta=4.0)) == 0


def test_one_device_equals_eight():
    assert_one_device_equals_eight(lambda *x: vae(*x, beta=2.0), *inputs(8), axes=(0, 0, 0, 0))


def test_batch_order_does_not_matter():
    x, order = inputs(5), np.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(vae(*(a[order] for a in x), beta=2.0), vae(*x, beta=2.0), rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_bad_inputs_give_a_defined_value_and_finite_gradients(batch):
    loss = functools.partial(vae, beta=1.0)
    for x in bad_inputs((batch, 2, 3), (batch, 2, 3), (batch, 4), (batch, 4)).values():
        assert_defined(loss, *x)


def test_an_exploding_variance_is_pushed_down():
    image, mean = jnp.zeros((1, 1)), jnp.zeros((1, 1))
    slopes = [jax.grad(lambda v: vae(image, image, mean, v, beta=1.0))(jnp.full((1, 1), v)) for v in (49.0, 51.0, 1e4)]
    assert all(np.isfinite(float(s[0, 0])) and float(s[0, 0]) > 1e20 for s in slopes)


@pytest.mark.parametrize(
    "place, shape, named",
    [
        (0, (3, 2, 2), r"\(3, 2, 2\).*\(3, 2, 3\)"),
        (2, (3, 5), r"\(3, 5\).*\(3, 4\)"),
        (3, (2, 4), r"\(3, 4\).*\(2, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(place, shape, named):
    x = inputs(3)
    x[place] = normal(*shape)
    with pytest.raises(ValueError, match=named):
        vae(*x, beta=1.0)


def test_another_batch_of_the_posterior_is_named():
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(3, 2, 3\)"):
        vae(*inputs(3)[:2], *inputs(2)[2:], beta=1.0)
