"""Changes of colour, each of a strength of its own for every image of the batch; the definitions are torchvision's.

Images are planes, f32[B, 3, H, W] in [0, 1], and stay in [0, 1].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.sharding import on_cpu

LUMA = (0.2989, 0.587, 0.114)  # shares of red, green and blue in grey
BRIGHTNESS, CONTRAST, SATURATION = range(3)  # kinds of blend: with black, with the mean grey, with each pixel's grey


class Jitter(NamedTuple):
    """What happens to the colours of each image: K blends in sequence, and a turn of the hue among them."""

    kinds: Array  # i32[B, K], BRIGHTNESS, CONTRAST or SATURATION, in the order in which they apply
    factors: Array  # f32[B, K], the share of the image in the blend; more than 1 leads away from black or grey
    turns: Array | None  # f32[B], in turns of the colour circle
    place: Array  # i32[B], how many of the blends come before the turn, 0 to K


def draw_jitter(rng: Array, chosen: Array, brightness: float, contrast: float, saturation: float, hue: float) -> Jitter:
    """Draws random amounts in random order, as torchvision's ColorJitter.

    Args:
        rng: a random key.
        chosen: bool[B], the images to change; the others get amounts that change nothing.
        brightness: the factors are uniform in [max(0, 1 - brightness), 1 + brightness]; 0 leaves it out.
        contrast: likewise.
        saturation: likewise.
        hue: the turns are uniform in [-hue, hue], in turns of the colour circle; 0 leaves it out.
    """
    order_rng, factor_rng, turn_rng = jax.random.split(rng, 3)
    strengths = (brightness, contrast, saturation)
    kinds = [kind for kind in (BRIGHTNESS, CONTRAST, SATURATION) if strengths[kind]]
    shape = (len(chosen), len(kinds))

    order = jnp.array(kinds, jnp.int32)[jnp.argsort(jax.random.uniform(order_rng, shape), axis=1)]
    strength = jnp.array(strengths)[order]
    low = jnp.maximum(0, 1 - strength)
    factors = low + jax.random.uniform(factor_rng, shape) * (1 + strength - low)
    turn, place = jax.random.uniform(turn_rng, (2, len(chosen)))
    return Jitter(
        kinds=order,
        factors=jnp.where(chosen[:, None], factors, 1),
        turns=jnp.where(chosen, hue * (2 * turn - 1), 0) if hue else None,
        place=jnp.floor(place * (len(kinds) + 1)).astype(jnp.int32),
    )


def _jitter_on_cpu(images: Array, amounts: Jitter) -> Array:
    """As `jitter`: what each operation makes is kept, since memory is near and arithmetic is dear."""
    return _in_order(images, amounts, blend, turn_hue)


@on_cpu(_jitter_on_cpu)
def jitter(images: Array, amounts: Jitter) -> Array:
    """f32[B, 3, H, W], the images with their colours changed by these amounts."""
    # Two passes over the pixels, which keep nothing between operations: one through what comes before the contrast, for
    # the mean grey that this needs, and one through everything.
    kinds, factors, turns, place = amounts
    before = jnp.cumsum(kinds == CONTRAST, axis=1) == 0
    early = Jitter(
        kinds=kinds[:, :-1],
        factors=jnp.where(before, factors, 1)[:, :-1],
        turns=None if turns is None else jnp.where(place <= before.sum(1), turns, 0),
        place=place,
    )
    planes = jnp.unstack(images, axis=1)
    mean = _grey(*_in_order(planes, early, functools.partial(_blend_planes, mean=jnp.zeros(len(images))), _turn_planes))
    mean = mean.mean((1, 2))
    planes = _in_order(planes, amounts, functools.partial(_blend_planes, mean=mean), _turn_planes)
    return jnp.stack(planes, axis=1)


def _in_order(pixels: Any, amounts: Jitter, blend: Callable, turn: Callable) -> Any:
    kinds, factors, turns, place = amounts
    if turns is None:
        return blend(pixels, kinds, factors)
    # A turn costs more than the blends, so there is one, between the blends before it and those after it, and not one
    # at each place with a choice. A blend on the other side takes the factor 1, which changes nothing.
    before = jnp.arange(kinds.shape[1])[None] < place[:, None]
    pixels = blend(pixels, kinds, jnp.where(before, factors, 1))
    pixels = turn(pixels, turns)
    return blend(pixels, kinds, jnp.where(before, 1, factors))


def blend(images: Array, kinds: Array, factors: Array) -> Array:
    """Blends each image f32[B, 3, H, W] with black or grey, once for each of kinds and factors [B, K] in sequence."""
    for k in range(kinds.shape[1]):
        kind, factor = kinds[:, k], factors[:, k]
        light = grey(images)
        offset = jnp.where(kind == CONTRAST, (1 - factor) * light.mean((1, 2)), 0)
        share = jnp.where(kind == SATURATION, 1 - factor, 0)
        other = share[:, None, None] * light + offset[:, None, None]
        images = jnp.clip(factor[:, None, None, None] * images + other[:, None], 0, 1)
    return images


def _blend_planes(planes: Sequence[Array], kinds: Array, factors: Array, mean: Array) -> Sequence[Array]:
    """As `blend`, of three planes f32[B, H, W] whose mean grey, where the contrast changes, is `mean` f32[B]."""
    for k in range(kinds.shape[1]):
        kind, factor = kinds[:, k, None, None], factors[:, k, None, None]
        other = jnp.where(kind == CONTRAST, (1 - factor) * mean[:, None, None], 0)
        other += jnp.where(kind == SATURATION, 1 - factor, 0) * _grey(*planes)
        planes = [jnp.clip(factor * plane + other, 0, 1) for plane in planes]
    return planes


def grey(images: Array) -> Array:
    """The grey f32[B, H, W] of images f32[B, 3, H, W]."""
    return _grey(*jnp.unstack(images, axis=1))


def _grey(red: Array, green: Array, blue: Array) -> Array:
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def turn_hue(images: Array, turns: Array) -> Array:
    """Turns the hue, in HSV, and keeps saturation and value.

    Args:
        images: f32[B, 3, H, W].
        turns: f32[B], in turns of the colour circle: 1/3 makes red green.

    Returns:
        f32[B, 3, H, W].
    """
    return jnp.stack(_turn_planes(jnp.unstack(images, axis=1), turns), axis=1)


def _turn_planes(planes: Sequence[Array], turns: Array) -> Sequence[Array]:
    red, green, blue = planes
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    scale = 1 / jnp.where(chroma == 0, 1, chroma)
    # In sixths of the circle. Which channel is the largest is not asked by `value == red`: a compiler may compute a
    # channel anew for each use, rounded otherwise, so that none is equal to the largest. Where two channels are
    # compared wrongly they are nearly equal, and both formulas give the same.
    hue = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) * scale,
        jnp.where(green >= blue, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    hue = hue + 6 * turns[:, None, None]

    def channel(opposite):
        # A channel lacks all of the chroma within one sixth of the hue opposite to it, and none beyond two sixths.
        apart = hue - opposite
        apart = jnp.abs(apart - 6 * jnp.round(apart / 6))
        return value - chroma * jnp.clip(2 - apart, 0, 1)

    return [channel(3), channel(5), channel(1)]  # cyan, magenta and yellow


def drop_colour(images: Array, chosen: Array) -> Array:
    """Takes the colour from the images chosen by bool[B]."""
    light = grey(images)
    # A stack of planes is kept in memory; the same as one selection would be computed again for each use that follows.
    return jnp.stack([jnp.where(chosen[:, None, None], light, plane) for plane in jnp.unstack(images, axis=1)], axis=1)


def solarise(images: Array, chosen: Array) -> Array:
    """Inverts what is brighter than a half, in the images chosen by bool[B]."""
    return jnp.where(chosen[:, None, None, None] & (images >= 0.5), 1 - images, images)
