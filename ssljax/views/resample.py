"""Boxes in photos, and the weights that resample what lies in them.

A box is relative to the photo: corners and sides in [0, 1], so that the whole photo is (0, 0, 1, 1) whatever its shape.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from ssljax.models.weights.preprocessing import Filter

# Of the products that make views: three products of bfloat16 on a TPU, TensorFloat-32 on a GPU, float32 on a CPU. A
# pixel in [0, 255] is off from float32's by at most 0.02 on a TPU and 0.5 on a GPU: no more than by rounding to a byte.
PRECISION = "high"

# A filter is a sum of polynomials of the distance, in the unit of `weigh`, each up to a distance of its own. That comes
# first here, then the coefficients of the powers 0, 1, ... Bilinear is a triangle; bicubic is Keys's (1981) with
# a = -1/2, as in Pillow.
_FILTERS: dict[str, tuple[tuple[int, tuple[float, ...]], ...]] = {
    "bilinear": ((1, (1, -1)),),
    "bicubic": ((1, (-1, 4, -5, 2)), (2, (2, -4, 2.5, -0.5))),
}
REACH = {name: pieces[-1][0] for name, pieces in _FILTERS.items()}  # how far each reads


class Box(NamedTuple):
    """A box in each photo, f32[B] each, in fractions of the photo's width (left, width) or height (top, height)."""

    left: Array
    top: Array
    width: Array
    height: Array


def resample(planes: Array, rows: Array, columns: Array, precision: str = PRECISION) -> Array:
    """f32[B, C, h, w] of planes f32[B, C, H, W], by weights of rows f32[B, h, H] and of columns f32[B, w, W]."""
    return jnp.einsum("bcyx,bhy,bwx->bchw", planes, rows, columns, precision=precision, optimize=[(0, 1), (0, 1)])


def weigh(distance: Array, filter: Filter) -> Array:
    """The weight of a pixel at a distance >= 0 from where a filter reads.

    The unit is a pixel of the result or of the source, whichever is larger: what shrinks is antialiased.
    """
    weight = jnp.zeros(())
    for below, (first, *others) in _FILTERS[filter]:
        power, polynomial = 1.0, first
        for coefficient in others:
            power = power * distance
            polynomial = polynomial + coefficient * power
        weight = weight + jnp.where(distance < below, polynomial, 0)
    return weight


def resize_weights(
    start: Array, extent: Array, source: int, size: int, flip: Array | None = None, filter: Filter = "bilinear"
) -> Array:
    """The matrix that resamples a line of `source` pixels: `size` pixels from `start` over `extent`.

    Args:
        start: f32[B], where the box begins, as a share of the line.
        extent: f32[B], its length, as a share of the line.
        source: pixels of the line.
        size: pixels of the result.
        flip: bool[B], where to run from the end of the box to its start.
        filter: whose weights they are.

    Returns:
        f32[B, size, source]; each row sums to 1.
    """
    step = extent * (source / size)
    pixel = jnp.arange(size)[None] + 0.5
    if flip is not None:
        pixel = jnp.where(flip[:, None], size - pixel, pixel)
    return line_weights(start[:, None] * source + pixel * step[:, None], step, source, filter)


def line_weights(center: Array, step: Array, source: int, filter: Filter = "bilinear") -> Array:
    """The matrix that reads a line of `source` pixels at `center` f32[B, size], `step` f32[B] pixels apart.

    f32[B, size, source], by a filter; what lies beyond the line reads its end.
    """
    center = jnp.clip(center, 0, source)
    distance = jnp.abs(jnp.arange(source)[None, None] + 0.5 - center[:, :, None])
    weights = weigh(distance / jnp.maximum(step, 1)[:, None, None], filter)
    return weights / weights.sum(2, keepdims=True)


def padded_weights(extent: Array, share: float, source: int, size: int, filter: Filter = "bilinear") -> Array:
    """The matrix that resamples a line of `source` pixels in the middle of a longer one, of which the rest is empty.

    The weights of empty pixels are left out: a row sums to the share of its filter that lies on the line. It sums to 1
    throughout if there are no empty pixels.

    Args:
        extent: f32[B], length of the longer line as a multiple of the shorter; at least 1.
        share: of the longer line, which the result spans: its middle.
        source: pixels of the shorter line.
        size: pixels of the result.
        filter: whose weights they are.

    Returns:
        f32[B, size, source].
    """
    extent = extent[:, None]
    step, beyond = extent * (share * source / size), (extent - 1) * (source / 2)
    unit = jnp.maximum(step, 1)
    center = source / 2 + (jnp.arange(size)[None] + 0.5 - size / 2) * step
    weights = weigh(jnp.abs(jnp.arange(source)[None, None] + 0.5 - center[..., None]) / unit[..., None], filter)
    # The weights of all pixels of the longer line, in closed form: of those before the center, the nearest of which is
    # `near` away, and of those after it.
    before = jnp.floor(center - 0.5)
    near = center - 0.5 - before
    total = _total(near, unit, before + 1 + beyond, filter)
    total = total + _total(1 - near, unit, source + beyond - before - 1, filter)
    return weights / total[..., None]


def _total(near: Array, unit: Array, there: Array, filter: Filter) -> Array:
    """The sum of the weights at the distances near, near + 1, ... in pixels, of `there` pixels at most.

    A last pixel that is there in part counts in part. `unit` is that of `weigh`, in pixels.
    """
    there = jnp.maximum(0, there)
    whole = jnp.floor(there)
    total = (there - whole) * weigh((near + whole) / unit, filter)
    for below, coefficients in _FILTERS[filter]:
        count = jnp.clip(jnp.floor(below * unit - near) + 1, 0, whole)
        for power, coefficient in enumerate(coefficients):
            total = total + coefficient * _sum_of_powers(power, near, count) / unit**power
    return total


def _sum_of_powers(power: int, first: Array, n: Array) -> Array:
    """The sum of `first`^power, (first + 1)^power, ... of n terms."""
    ones, squares = n * (n - 1) / 2, (n - 1) * n * (2 * n - 1) / 6  # the sums of j and of j^2; of j^3 it is ones^2
    match power:
        case 0:
            return n
        case 1:
            return n * first + ones
        case 2:
            return n * first**2 + 2 * first * ones + squares
        case _:
            return n * first**3 + 3 * first**2 * ones + 3 * first * squares + ones**2
