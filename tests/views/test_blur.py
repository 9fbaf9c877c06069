"""Blur: equal to a direct convolution."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.views import blur as module


@pytest.fixture(params=["cpu", "accelerator"])
def blur(request):
    return module.blur if request.param == "cpu" else module.blur.__wrapped__


def convolved(image, sigma, radius):
    """One plane, tap by tap, over the reflected border."""
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(image, radius, mode="reflect")
    side = 2 * radius + 1
    return np.array(
        [[(padded[y : y + side, x : x + side] * kernel).sum() for x in range(len(image))] for y in range(len(image))]
    )


@pytest.mark.parametrize(("size", "radius"), [(12, 1), (40, 2), (64, 3)])
def test_blur_is_a_convolution_over_a_tenth_of_the_side(blur, size, radius):
    images = np.random.default_rng(0).random((3, 3, size, size), np.float32)
    sigma = [0.1, 0.8, 2.0]
    result = blur(jnp.asarray(images), jnp.array(sigma), jnp.ones(3, bool))
    for row in range(3):
        np.testing.assert_allclose(result[row, 1], convolved(images[row, 1], sigma[row], radius), atol=1e-5)


def test_only_the_chosen_images_are_blurred(blur):
    images = jnp.asarray(np.random.default_rng(0).random((2, 3, 20, 20), np.float32))
    result = blur(images, jnp.full(2, 2.0), jnp.array([False, True]))
    np.testing.assert_array_equal(result[0], images[0])
    assert float(jnp.abs(result[1] - images[1]).max()) > 0.1


def test_an_even_image_stays_even(blur):
    np.testing.assert_allclose(blur(jnp.full((1, 3, 30, 30), 0.3), jnp.ones(1), jnp.ones(1, bool)), 0.3, atol=1e-6)
