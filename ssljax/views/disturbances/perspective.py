"""Photos taken from another angle: perspective and rotation, each a warp by a homography."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.views.disturbances.disturbance import Disturbance, change

CORNER = 0.25  # of the side: how far a corner moves inwards at strength 1, along each axis (half of a half side)
ANGLE = math.pi / 4  # at strength 1


@dataclasses.dataclass(frozen=True)
class Perspective(Disturbance):
    """Moves each corner inwards by a random amount up to the strength; the border's pixels fill the rest.

    This is torchvision's RandomPerspective, with a `distortion_scale` of half the strength.
    """

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        inwards = CORNER * strength[:, None, None] * jax.random.uniform(rng, (len(strength), 4, 2))
        corners = jnp.array([(0, 0), (1, 0), (1, 1), (0, 1)], jnp.float32)[None]
        return warp(images, from_square_to(corners + (1 - 2 * corners) * inwards), strength > 0)


@dataclasses.dataclass(frozen=True)
class Rotation(Disturbance):
    """Rotates about the center, either way, by 45 degrees at strength 1; the border's pixels fill the corners."""

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        angle = ANGLE * strength * jax.random.rademacher(rng, strength.shape)
        return warp(images, rotation(angle, images.shape[3] / images.shape[2]), strength > 0)


def from_square_to(corners: Array) -> Array:
    """The homography that takes the unit square to four corners (Heckbert 1989, section 2.2.3).

    Args:
        corners: f32[B, 4, 2], where (0, 0), (1, 0), (1, 1) and (0, 1) go, as (x, y).

    Returns:
        f32[B, 3, 3], acting on (x, y, 1).
    """
    first, second, third, fourth = jnp.unstack(corners, axis=1)
    right, down, excess = second - third, fourth - third, first - second + third - fourth

    def area(a, b):
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    # The last row is (g, h, 1): with the corners' equations of the first two rows put in, g and h solve
    # g * right + h * down = excess.
    g = (area(excess, down) / area(right, down))[:, None]
    h = (area(right, excess) / area(right, down))[:, None]
    x_and_y = jnp.stack([second - first + g * second, fourth - first + h * fourth, first], axis=2)
    return jnp.concatenate([x_and_y, jnp.stack([g, h, jnp.ones_like(g)], axis=2)], axis=1)


def rotation(angle: Array, aspect: float) -> Array:
    """The homography f32[B, 3, 3] that turns the unit square, an image of width / height `aspect`, about its center.

    Args:
        angle: f32[B], radians, clockwise as seen on the screen.
        aspect: width / height; without it, an image that is not square would be sheared.
    """
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    across, down = sine / aspect, sine * aspect
    zero = jnp.zeros_like(angle)
    rows = [
        [cosine, -across, (1 - cosine + across) / 2],
        [down, cosine, (1 - cosine - down) / 2],
        [zero, zero, zero + 1],
    ]
    return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)


def warp(images: Array, matrix: Array, chosen: Array) -> Array:
    """Moves every point of the chosen images to where its homography takes it; bilinear, and clamped at the border.

    Args:
        images: f32[B, 3, H, W].
        matrix: f32[B, 3, 3], acts on (x, y, 1), where the image is the unit square from its upper left corner; it
            must not mirror.
        chosen: bool[B]; the others stay as they are.

    Returns:
        f32[B, 3, H, W].
    """
    return change(images, chosen, lambda take: _warped(take(images), take(matrix)))


def _warped(images: Array, matrix: Array) -> Array:
    _, _, height, width = images.shape
    # Each pixel asks where it comes from. The cross products of a matrix's rows are the columns of its inverse, up to a
    # factor, which the division takes out; a solver would be a call that is not split over devices.
    one, two, three = jnp.unstack(matrix, axis=1)
    inverse = jnp.stack([jnp.cross(two, three), jnp.cross(three, one), jnp.cross(one, two)], axis=2)[..., None, None]
    x = ((jnp.arange(width) + 0.5) / width)[None, None, None]
    y = ((jnp.arange(height) + 0.5) / height)[None, None, :, None]
    source_x, source_y, scale = jnp.unstack(inverse[:, :, 0] * x + inverse[:, :, 1] * y + inverse[:, :, 2], axis=1)
    scale = jnp.maximum(scale, 1e-6)  # a horizon may cross the frame; beyond it, as at it, everything is the border
    source_x = jnp.clip(source_x / scale * width - 0.5, 0, width - 1)
    source_y = jnp.clip(source_y / scale * height - 0.5, 0, height - 1)

    left = jnp.minimum(jnp.floor(source_x), width - 2)
    top = jnp.minimum(jnp.floor(source_y), height - 2)
    across, down = (source_x - left)[:, None], (source_y - top)[:, None]
    index = (top * width + left).astype(jnp.int32).reshape(len(images), 1, -1)
    flat = images.reshape(*images.shape[:2], -1)

    def pixels(offset):
        # Gathered from whole planes, one of four neighbours at a time, which XLA fuses with what follows. For 128
        # images of 64 pixels on a CPU that is four times faster than the twelve numbers of a pixel gathered at once,
        # and 25 times faster than products with a weight matrix for each line.
        found = jnp.take_along_axis(flat, index + offset, axis=2, mode="promise_in_bounds")
        return found.reshape(images.shape)

    upper = pixels(0) + across * (pixels(1) - pixels(0))
    lower = pixels(width) + across * (pixels(width + 1) - pixels(width))
    return jnp.clip(upper + down * (lower - upper), 0, 1)
