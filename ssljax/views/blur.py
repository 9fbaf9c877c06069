"""Gaussian blur, with a sigma for each image."""

import jax
import jax.numpy as jnp
from jax import Array


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
    radius = max(1, images.shape[2] // 20)
    offset = jnp.arange(radius + 1)[None]
    taps = jnp.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    taps = taps / (2 * taps.sum(1, keepdims=True) - 1)  # every tap but the middle one counts twice
    taps = jnp.where(chosen[:, None], taps, offset == 0)
    return _convolve(_convolve(images, taps, axis=2), taps, axis=3)


def _convolve(images: Array, taps: Array, axis: int) -> Array:
    """Weighted sums of shifted copies: a few multiplications a pixel, and no convolution with a kernel per image."""
    radius, size = taps.shape[1] - 1, images.shape[axis]
    widths = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
    padded = jnp.pad(images, widths, mode="reflect")

    def shifted(by):
        return jax.lax.slice_in_dim(padded, radius + by, radius + by + size, axis=axis)

    total = taps[:, 0, None, None, None] * images
    for by in range(1, radius + 1):
        total = total + taps[:, by, None, None, None] * (shifted(-by) + shifted(by))
    return total
