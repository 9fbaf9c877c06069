"""Photos in another frame: cut at the borders, padded with a plain colour, or seen in a screenshot."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.views.disturbances.disturbance import Disturbance, Take, change
from ssljax.views.resample import Box, line_weights, resample

# Shares of the side at strength 1.
CUT = 0.4
MARGINS = 0.5
BAR = 0.15
SIGNS = 4  # in each bar of a screenshot


@dataclasses.dataclass(frozen=True)
class BorderCrop(Disturbance):
    """Cuts up to 40 % of the width and height off at strength 1, each at one end, and stretches the rest.

    The item touches the border or crosses it.
    """

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        amount_rng, end_rng = jax.random.split(rng)
        shape = (2, len(strength))
        cut = CUT * strength[None] * jax.random.uniform(amount_rng, shape)
        start = jnp.where(jax.random.bernoulli(end_rng, shape=shape), cut, 0)
        box = Box(*start, *(1 - cut))
        return change(images, strength > 0, lambda take: show(take(images), Box(*map(take, box)))[0])


@dataclasses.dataclass(frozen=True)
class Padding(Disturbance):
    """Shrinks the photo, to half its size at strength 1, and places it on a ground: white half of the time, or of a
    random colour."""

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        place_rng, white_rng, ground_rng = jax.random.split(rng, 3)
        extent = 1 - MARGINS * strength
        place = (1 - extent)[None] * jax.random.uniform(place_rng, (2, len(strength)))  # of its upper left corner
        white = jax.random.bernoulli(white_rng, shape=(len(strength), 1))
        ground = jnp.where(white, 1, jax.random.uniform(ground_rng, (len(strength), 3)))

        left, top = -place / extent[None]
        box = Box(left, top, 1 / extent, 1 / extent)

        def padded(take: Take) -> Array:
            result, inside = show(take(images), Box(*map(take, box)))
            return jnp.where(inside[:, None], result, take(ground)[:, :, None, None])

        return change(images, strength > 0, padded)


@dataclasses.dataclass(frozen=True)
class ScreenshotBars(Disturbance):
    """The bars of a phone at top and bottom, bright or dark, with a few signs; each up to 15 % high at strength 1."""

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        _, _, height, width = images.shape
        height_rng, bright_rng, grey_rng, *sign_rngs = jax.random.split(rng, 5)
        heights = BAR * strength[None] * jax.random.uniform(height_rng, (2, len(strength)), minval=0.5)
        bright = jax.random.bernoulli(bright_rng, shape=strength.shape)
        tone = 0.15 * jax.random.uniform(grey_rng, strength.shape)
        bar_tone, sign_tone = jnp.where(bright, 1 - tone, tone), jnp.where(bright, 0.2, 0.9)

        layers = []  # each covers a share of each row and of each column, in a tone
        for start, extent, sign_rng in zip((jnp.zeros_like(strength), 1 - heights[1]), heights, sign_rngs, strict=True):
            left, extents = jax.random.uniform(sign_rng, (2, len(strength), SIGNS))
            signs = covered(left, 0.02 + 0.08 * extents, width).max(1)
            bar = covered(start, extent, height)
            line = covered(start + 0.3 * extent, 0.4 * extent, height)
            layers += [(bar, jnp.ones_like(signs), bar_tone), (line, signs, sign_tone)]

        def painted(take: Take) -> Array:
            result = take(images)
            for layer in layers:
                rows, columns, tone = map(take, layer)
                share = rows[:, None, :, None] * columns[:, None, None]
                result = result + share * (tone[:, None, None, None] - result)
            return result

        return change(images, strength > 0, painted)


def show(images: Array, box: Box) -> tuple[Array, Array]:
    """What lies in a box of each image, stretched over all of it; bilinear and antialiased.

    Args:
        images: f32[B, 3, H, W].
        box: f32[B] each; may reach over the border, beyond which the border's pixels are repeated.

    Returns:
        f32[B, 3, H, W], and bool[B, H, W], which pixels lie within the image.
    """

    def line(start, extent, size):
        center = start[:, None] * size + extent[:, None] * (jnp.arange(size) + 0.5)[None]
        inside = (center > 0) & (center < size)
        return line_weights(jnp.clip(center, 0.5, size - 0.5), extent, size), inside

    rows, inside_rows = line(box.top, box.height, images.shape[2])
    columns, inside_columns = line(box.left, box.width, images.shape[3])
    return jnp.clip(resample(images, rows, columns), 0, 1), inside_rows[:, :, None] & inside_columns[:, None]


def covered(start: Array, extent: Array, size: int) -> Array:
    """The share f32[..., size] of each pixel of a line that is covered from `start` over `extent`, f32[...] each, in
    shares of the line."""
    pixel = jnp.arange(size).reshape((1,) * start.ndim + (size,))
    end = (start + extent)[..., None] * size
    return jnp.clip(jnp.minimum(pixel + 1, end) - jnp.maximum(pixel, start[..., None] * size), 0, 1)
