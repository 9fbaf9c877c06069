"""Gaussian blur, with a sigma for each image."""

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.sharding import on_cpu
from ssljax.views.resample import resample


def _blur_on_cpu(images: Array, sigma: Array, chosen: Array) -> Array:
    """As `blur`, by weighted sums of shifted copies: a few multiplications a pixel."""
    offset = jnp.arange(_radius(images) + 1)[None]
    taps = jnp.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    taps = taps / (2 * taps.sum(1, keepdims=True) - 1)  # every tap but the middle one counts twice
    taps = jnp.where(chosen[:, None], taps, offset == 0)
    return _convolve(_convolve(images, taps, axis=2), taps, axis=3)


@on_cpu(_blur_on_cpu)
def blur(images: Array, sigma: Array, chosen: Array) -> Array:
    """Blurs the chosen images; beyond the border the image is reflected.

    The kernel spans a tenth of the side, as in SimCLR (Chen et al. 2020, appendix A), and at least 3 pixels.

    Args:
        images: f32[B, 3, H, H].
        sigma: f32[B], in pixels of the image.
        chosen: bool[B].

    Returns:
        f32[B, 3, H, H].
    """
    # A product with a banded matrix for each image: 23 shifted copies of 224 pixels take a TPU twenty times as long.
    side, radius = images.shape[2], _radius(images)
    to, source = jnp.arange(side)[None, :, None], jnp.arange(side)[None, None]

    def taps(distance: Array) -> Array:
        return jnp.where(distance <= radius, jnp.exp(-0.5 * (distance / sigma[:, None, None]) ** 2), 0)

    weights = taps(jnp.abs(to - source))
    weights += jnp.where(source > 0, taps(to + source), 0)  # reflected at the start of the line
    weights += jnp.where(source < side - 1, taps(2 * (side - 1) - to - source), 0)  # and at its end
    weights = jnp.where(chosen[:, None, None], weights / weights.sum(2, keepdims=True), to == source)
    return resample(images, weights, weights)


def _radius(images: Array) -> int:
    return max(1, images.shape[2] // 20)


def _convolve(images: Array, taps: Array, axis: int) -> Array:
    radius, size = taps.shape[1] - 1, images.shape[axis]
    widths = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
    padded = jnp.pad(images, widths, mode="reflect")

    def shifted(by):
        return jax.lax.slice_in_dim(padded, radius + by, radius + by + size, axis=axis)

    total = taps[:, 0, None, None, None] * images
    for by in range(1, radius + 1):
        total = total + taps[:, by, None, None, None] * (shifted(-by) + shifted(by))
    return total
