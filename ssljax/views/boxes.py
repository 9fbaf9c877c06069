"""Random resized crops in the geometry of the original photo, which arrives squashed to a square."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ssljax.models.weights.preprocessing import Filter
from ssljax.sharding import on_cpu, one_cpu
from ssljax.views import cpu
from ssljax.views.resample import Box, padded_weights, resample, resize_weights

ATTEMPTS = 10  # boxes drawn before the central one is taken, as in torchvision


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


def central_boxes(aspect: Array, ratio: tuple[ArrayLike, ArrayLike], share: float = 1.0) -> Box:
    """The largest central box whose width / height lies within `ratio`: the whole photo, if the photo's own does.

    Args:
        aspect: f32[B], width / height of the original photo.
        ratio: the smallest and the largest width / height, of all or f32[B] of each.
        share: of each side of the box, the central part that is kept.
    """
    width = jnp.minimum(1, ratio[1] / aspect) * share
    height = jnp.minimum(1, aspect / ratio[0]) * share
    return Box((1 - width) / 2, (1 - height) / 2, width, height)


def pad_to_square(photos: Array, aspect: Array, size: int, share: float = 1.0, filter: Filter = "bilinear") -> Array:
    """Whole photos on white squares: centered, their aspect ratio kept, resized as `resize` does.

    A pixel on the edge of a photo is white by the share of the filter that lies beyond it.

    Args:
        photos: u8[B, S, S, 3], or f32 in [0, 1]: whole photos, squashed to squares.
        aspect: f32[B], width / height before that.
        size: side of the result, in pixels.
        share: of each side of the square, the central part that is kept.
        filter: by which pixels are resampled.

    Returns:
        f32[B, 3, size, size] in [0, 1]; a bicubic filter overshoots a little.
    """
    rows = padded_weights(jnp.maximum(1, aspect), share, photos.shape[1], size, filter)
    columns = padded_weights(jnp.maximum(1, 1 / aspect), share, photos.shape[2], size, filter)
    planes = photos.transpose(0, 3, 1, 2).astype(jnp.float32)
    darkness = 1 - (planes / 255 if photos.dtype == jnp.uint8 else planes)  # of white there is none, wherever it lies
    return 1 - resample(darkness, rows, columns, "highest")


@on_cpu(cpu.resize, when=one_cpu)
def resize(
    photos: Array,
    box: Box,
    size: int,
    flip: Array | None = None,
    precision: str = "highest",
    filter: Filter = "bilinear",
) -> Array:
    """Cuts the boxes out and resizes them, antialiased: what Pillow's `resize(box=…)` does.

    Args:
        photos: u8[B, S, S, 3], or f32 in [0, 1].
        box: f32[B * n] each, n boxes of the first photo, then n of the second, and so on.
        size: side of the result, in pixels.
        flip: bool[B * n], the crops to mirror left to right; None for none.
        precision: of the products, as `jax.lax.Precision` names it.
        filter: by which pixels are resampled.

    Returns:
        f32[B * n, 3, size, size] in [0, 1], which a bicubic filter overshoots a little: channels first, so that what
        follows works on whole planes.
    """
    batch, *source, _ = photos.shape
    rows = resize_weights(box.top, box.height, source[0], size, None, filter).reshape(batch, -1, size, source[0])
    columns = resize_weights(box.left, box.width, source[1], size, flip, filter).reshape(batch, -1, size, source[1])
    planes = photos.transpose(0, 3, 1, 2).astype(jnp.float32)
    if photos.dtype == jnp.uint8:
        planes = planes / 255
    crops = jnp.einsum("bcyx,bnhy,bnwx->bnchw", planes, rows, columns, precision=precision, optimize=[(0, 1), (0, 1)])
    return crops.reshape(-1, *crops.shape[2:])
