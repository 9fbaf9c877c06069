"""The item's colour changes, and the ground's does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.views import HueShift, Light, Recolour, colour
from ssljax.views.disturbances.recolour import LIGHT, foreground

disturb = jax.jit(lambda kind, rng, images, strength: kind().disturb(rng, images, strength), static_argnums=0)
INSIDE = np.s_[:, :, 4:12, 5:11]


def items(batch=40, item=(0.8, 0.2, 0.2), ground=(0.9, 0.9, 0.8)):
    """Rectangles of one colour on a ground of another."""
    images = np.broadcast_to(np.array(ground, np.float32)[:, None, None], (batch, 3, 16, 16)).copy()
    images[INSIDE] = np.array(item)[:, None, None]
    return images


def outside(images):
    return np.delete(np.asarray(images).reshape(*images.shape[:2], -1), INDEX_INSIDE, axis=2)


INDEX_INSIDE = np.arange(256).reshape(16, 16)[INSIDE[2:]].ravel()


def test_the_foreground_is_what_differs_from_the_border():
    images = items(2)
    images[1, :, :, 0] = 0.1  # one side of the border is something else
    share = np.asarray(foreground(jnp.asarray(images)))
    expected = np.zeros((2, 16, 16))
    expected[(slice(None), *INSIDE[2:])] = 1
    expected[1, :, 0] = 1
    np.testing.assert_allclose(share, expected, atol=1e-6)
    faint = np.asarray(foreground(jnp.asarray(items(1, item=(0.9, 0.9, 0.675)))))
    np.testing.assert_allclose(faint[0, 8, 8], 0.5, atol=1e-5)


@pytest.mark.parametrize("kind", [HueShift, Recolour])
def test_the_ground_keeps_its_colour(kind):
    images = items()
    result = np.asarray(disturb(kind, jax.random.key(0), jnp.asarray(images), jnp.ones(40)))
    np.testing.assert_array_equal(outside(result), outside(images))
    assert (np.abs(result - images)[INSIDE].max((1, 2, 3)) > 0.05).all()


def test_the_hue_turns_by_half_a_circle_at_strength_1_either_way():
    images = jnp.asarray(items(item=(0.8, 0.2, 0.2)))
    result = np.asarray(disturb(HueShift, jax.random.key(0), images, jnp.full(40, 2 / 3)))[:, :, 8, 8]
    green, blue = (np.abs(result - np.array(c)).max(1) < 1e-4 for c in ((0.2, 0.8, 0.2), (0.2, 0.2, 0.8)))
    assert (green != blue).all() and 8 < green.sum() < 32
    grey = jnp.asarray(items(item=(0.3, 0.3, 0.3), ground=(0.9, 0.9, 0.9)))
    np.testing.assert_allclose(disturb(HueShift, jax.random.key(0), grey, jnp.ones(40)), grey, atol=1e-6)


def test_the_mean_colour_moves_towards_a_random_one_and_the_pattern_stays():
    images = items(item=(0.5, 0.45, 0.4))
    images[INSIDE] += np.where(np.arange(6) % 2, 0.05, -0.05).astype(np.float32)
    whole, half = (
        np.asarray(disturb(Recolour, jax.random.key(0), jnp.asarray(images), jnp.full(40, s)))[INSIDE] for s in (1, 0.5)
    )
    mean = whole.mean((2, 3))
    assert 0.1 <= mean.min() < 0.2 and 0.8 < mean.max() <= 0.9
    item = images[INSIDE]
    pattern = item - item.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(whole - mean[:, :, None, None], pattern, atol=1e-5)
    np.testing.assert_allclose(half, (whole + item) / 2, atol=1e-5)


def test_light_is_the_jitter_at_strength_1_and_half_as_far_at_a_half():
    images = jnp.asarray(np.random.default_rng(0).random((24, 3, 8, 8), np.float32))
    amounts = colour.draw_jitter(jax.random.key(0), jnp.ones(24, bool), **LIGHT, hue=0.0)
    for strength in (1.0, 0.5):
        factors = 1 + strength * (amounts.factors - 1)
        expected = colour.jitter(images, amounts._replace(factors=factors))
        result = disturb(Light, jax.random.key(0), images, jnp.full(24, strength))
        np.testing.assert_allclose(result, expected, atol=1e-5)
