"""Random resized crops in the geometry of the original photo, resampled by weights of rows and columns.

A photo arrives squashed to a square, with the aspect ratio it had beside it. A box is relative to the photo: corners
and sides in [0, 1], so that the whole photo is (0, 0, 1, 1) whatever its shape.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.views.cpu_subset import PART, on_one_cpu

ATTEMPTS = 10  # boxes drawn before the central one is taken, as in torchvision


class Box(NamedTuple):
    """A box in each photo, f32[B] each, in fractions of the photo's width (left, width) or height (top, height)."""

    left: Array
    top: Array
    width: Array
    height: Array


def random_boxes(rng: Array, aspect: Array, scale: tuple[float, float], ratio: tuple[float, float]) -> Box:
    """Draws the box of torchvision's RandomResizedCrop, in continuous positions.

    Its area is uniform in `scale` (a share of the photo's), its width / height in the original log-uniform in `ratio`;
    of ten such draws the first that fits in the photo is taken, and if none does `central_boxes`.

    Args:
        rng: a random key.
        aspect: f32[B], width / height of the original photo.
        scale: the smallest and the largest area, in (0, 1].
        ratio: the smallest and the largest width / height.
    """
    shape_rng, position_rng = jax.random.split(rng)
    low = jnp.array([scale[0], math.log(ratio[0])])
    high = jnp.array([scale[1], math.log(ratio[1])])
    draws = jax.random.uniform(
        shape_rng, (aspect.shape[0], ATTEMPTS, 2), minval=low[None, None], maxval=high[None, None]
    )
    area, log_ratio = draws[:, :, 0], draws[:, :, 1]
    shape = jnp.exp(log_ratio) / aspect[:, None]  # width / height, in fractions of the photo's
    widths, heights = jnp.sqrt(area * shape), jnp.sqrt(area / shape)

    fits = (widths <= 1) & (heights <= 1)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    width = jnp.take_along_axis(widths, first, axis=1)[:, 0]
    height = jnp.take_along_axis(heights, first, axis=1)[:, 0]
    position = jax.random.uniform(position_rng, (2, aspect.shape[0]))
    drawn = Box(position[0] * (1 - width), position[1] * (1 - height), width, height)
    central = central_boxes(aspect, ratio)
    return jax.tree.map(lambda box, fallback: jnp.where(fits.any(axis=1), box, fallback), drawn, central)


def central_boxes(aspect: Array, ratio: tuple[float, float]) -> Box:
    """The largest central box whose width / height lies within `ratio`: the whole photo, if the photo's own does.

    Args:
        aspect: f32[B], width / height of the original photo.
        ratio: the smallest and the largest width / height.
    """
    width = jnp.minimum(1, ratio[1] / aspect)
    height = jnp.minimum(1, aspect / ratio[0])
    return Box((1 - width) / 2, (1 - height) / 2, width, height)


def resize(photos: Array, box: Box, size: int, flip: Array | None = None) -> Array:
    """Cuts the boxes out and resizes them: bilinear and antialiased, what Pillow's `resize(box=…)` does.

    Args:
        photos: u8[B, S, S, 3], or f32 in [0, 1].
        box: f32[B * n] each, n boxes of the first photo, then n of the second, and so on.
        size: side of the result, in pixels.
        flip: bool[B * n], the crops to mirror left to right; None for none.

    Returns:
        f32[B * n, 3, size, size] in [0, 1]: channels first, so that what follows works on whole planes.
    """
    if on_one_cpu():
        boxes = jax.tree.map(lambda side: side.reshape(len(photos), -1), (box, flip))
        crops = jax.lax.map(lambda one: _resize_one(one[0], *one[1], size), (photos, boxes), batch_size=PART)
        return crops.reshape(-1, *crops.shape[2:])
    batch, *source, _ = photos.shape
    rows = resize_weights(box.top, box.height, source[0], size).reshape(batch, -1, size, source[0])
    columns = resize_weights(box.left, box.width, source[1], size, flip).reshape(batch, -1, size, source[1])
    planes = photos.transpose(0, 3, 1, 2).astype(jnp.float32)
    if photos.dtype == jnp.uint8:
        planes = planes / 255
    crops = jnp.einsum("bcyx,bnhy,bnwx->bnchw", planes, rows, columns, precision="highest", optimize=[(0, 1), (0, 1)])
    return crops.reshape(-1, *crops.shape[2:])


def _resize_one(photo: Array, box: Box, flip: Array | None, size: int) -> Array:
    """f32[n, 3, size, size] of one photo, u8[S, S, 3]; sums the few rows that count, without a product."""
    source = photo.shape[0]
    step = box.height[:, None] * (source / size)
    centre = box.top[:, None] * source + (jnp.arange(size)[None] + 0.5) * step
    reach = jnp.maximum(step, 1)
    taps = min(source, math.ceil(2 * max(1, source / size)))  # as many as lie within `reach` of a centre, at most
    first = jnp.clip(jnp.floor(centre - reach + 0.5).astype(jnp.int32), 0, source - taps)

    planes = photo.transpose(2, 0, 1)
    total, weights = 0.0, 0.0
    for tap in range(taps):
        weight = jnp.maximum(0, 1 - jnp.abs(first + tap + 0.5 - centre) / reach)
        row = planes.at[:, first + tap].get(mode="promise_in_bounds").astype(jnp.float32)  # f32[3, n, size, S]
        total, weights = total + weight[None, :, :, None] * row, weights + weight
    total = total / weights[None, :, :, None]
    if photo.dtype == jnp.uint8:
        total = total / 255
    columns = resize_weights(box.left, box.width, photo.shape[1], size, flip)
    return jnp.einsum("cnhx,nwx->nchw", total, columns, precision="highest")


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


def line_weights(centre: Array, step: Array, source: int) -> Array:
    """The matrix that reads a line of `source` pixels at `centre` f32[B, size], `step` f32[B] pixels apart.

    f32[B, size, source], with the filter of `resize_weights`; what lies beyond the line reads its end.
    """
    centre = jnp.clip(centre, 0, source)
    distance = jnp.abs(jnp.arange(source)[None, None] + 0.5 - centre[:, :, None])
    weights = jnp.maximum(0, 1 - distance / jnp.maximum(step, 1)[:, None, None])
    return weights / weights.sum(2, keepdims=True)
