"""Boxes in photos, and the weights that resample what lies in them.

A box is relative to the photo: corners and sides in [0, 1], so that the whole photo is (0, 0, 1, 1) whatever its shape.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

# Of the products that make views: three products of bfloat16 on a TPU, TensorFloat-32 on a GPU, float32 on a CPU. A
# pixel in [0, 255] is off from float32's by at most 0.02 on a TPU and 0.5 on a GPU: no more than by rounding to a byte.
PRECISION = "high"


class Box(NamedTuple):
    """A box in each photo, f32[B] each, in fractions of the photo's width (left, width) or height (top, height)."""

    left: Array
    top: Array
    width: Array
    height: Array


def resample(planes: Array, rows: Array, columns: Array, precision: str = PRECISION) -> Array:
    """f32[B, C, h, w] of planes f32[B, C, H, W], by weights of rows f32[B, h, H] and of columns f32[B, w, W]."""
    return jnp.einsum("bcyx,bhy,bwx->bchw", planes, rows, columns, precision=precision, optimize=[(0, 1), (0, 1)])


def resize_weights(start: Array, extent: Array, source: int, size: int, flip: Array | None = None) -> Array:
    """The matrix that resamples a line of `source` pixels: `size` pixels from `start` over `extent`.

    The filter is a triangle as wide as two pixels of the result or of the source, whichever are larger: antialiased
    where it shrinks, bilinear where it enlarges.

    Args:
        start: f32[B], where the box begins, as a share of the line.
        extent: f32[B], its length, as a share of the line.
        source: pixels of the line.
        size: pixels of the result.
        flip: bool[B], where to run from the end of the box to its start.

    Returns:
        f32[B, size, source]; each row sums to 1.
    """
    step = extent * (source / size)
    pixel = jnp.arange(size)[None] + 0.5
    if flip is not None:
        pixel = jnp.where(flip[:, None], size - pixel, pixel)
    return line_weights(start[:, None] * source + pixel * step[:, None], step, source)


def line_weights(center: Array, step: Array, source: int) -> Array:
    """The matrix that reads a line of `source` pixels at `center` f32[B, size], `step` f32[B] pixels apart.

    f32[B, size, source], with the filter of `resize_weights`; what lies beyond the line reads its end.
    """
    center = jnp.clip(center, 0, source)
    distance = jnp.abs(jnp.arange(source)[None, None] + 0.5 - center[:, :, None])
    weights = jnp.maximum(0, 1 - distance / jnp.maximum(step, 1)[:, None, None])
    return weights / weights.sum(2, keepdims=True)


def padded_weights(extent: Array, source: int, size: int) -> Array:
    """The matrix that resamples a line of `source` pixels in the middle of a longer one, of which the rest is empty.

    The filter is that of `resize_weights`, and the weights of empty pixels are left out: a row sums to the share of its
    filter that lies on the line. It sums to 1 throughout if there are no empty pixels.

    Args:
        extent: f32[B], length of the longer line as a multiple of the shorter; at least 1.
        source: pixels of the shorter line.
        size: pixels of the result, which spans the longer line.

    Returns:
        f32[B, size, source].
    """
    step = extent[:, None] * (source / size)
    reach, beyond = jnp.maximum(step, 1), (extent[:, None] - 1) * (source / 2)
    center = (jnp.arange(size)[None] + 0.5) * step - beyond
    weights = jnp.maximum(0, 1 - jnp.abs(jnp.arange(source)[None, None] + 0.5 - center[..., None]) / reach[..., None])
    # The weights of all pixels of the longer line, in closed form: of those before the center, the nearest of which is
    # `near` away, and of those after it.
    before = jnp.floor(center - 0.5)
    near = center - 0.5 - before
    total = _total(near, reach, before + 1 + beyond) + _total(1 - near, reach, source + beyond - before - 1)
    return weights / total[..., None]


def _total(near: Array, reach: Array, there: Array) -> Array:
    """The sum of 1 - d / reach over the distances d = near, near + 1, ... below `reach`, of `there` pixels at most."""
    count = jnp.clip(jnp.floor(reach - near) + 1, 0, jnp.maximum(0, there))
    return count - (count * near + count * (count - 1) / 2) / reach
