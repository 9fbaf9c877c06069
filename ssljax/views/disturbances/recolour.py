"""The item in another colour, and the photo in another light."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.views import colour
from ssljax.views.disturbances.disturbance import Disturbance, Take, change

FAINT, CLEAR = 0.05, 0.2  # difference from the ground, in any channel, where the item begins and is in full
BORDER = 64  # pixels of the border that are looked at
LIGHT = dict(brightness=0.6, contrast=0.6, saturation=0.8)  # factors are up to 1 ± this at strength 1


@dataclasses.dataclass(frozen=True)
class HueShift(Disturbance):
    """Turns the item's hue, either way, by half the colour circle at strength 1; grey stays grey."""

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        turns = strength / 2 * jax.random.rademacher(rng, strength.shape)

        def turned(take: Take) -> Array:
            some = take(images)
            difference = colour.turn_hue(some, take(turns)) - some
            return jnp.clip(some + foreground(some)[:, None] * difference, 0, 1)

        return change(images, strength > 0, turned)


@dataclasses.dataclass(frozen=True)
class Recolour(Disturbance):
    """Moves the item's mean colour towards a random one, and all the way at strength 1: black may become red.

    All its pixels shift by the same amount, so that pattern and folds remain.
    """

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        aim = jax.random.uniform(rng, (len(strength), 3), minval=0.1, maxval=0.9)

        def recoloured(take: Take) -> Array:
            some = take(images)
            share = foreground(some)
            area = jnp.maximum(share.sum((1, 2)), 1e-6)
            mean = (share[:, None] * some).sum((2, 3)) / area[:, None]
            shift = take(strength)[:, None] * (take(aim) - mean)
            return jnp.clip(some + share[:, None] * shift[:, :, None, None], 0, 1)

        return change(images, strength > 0, recoloured)


@dataclasses.dataclass(frozen=True)
class Light(Disturbance):
    """Changes brightness, contrast and saturation in random order.

    At strength 1 the factors are 1.5 times as far from 1 as MoCo v2's, twice for saturation; beyond that, a photo on
    white may become all white.
    """

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        amounts = colour.draw_jitter(rng, strength > 0, **LIGHT, hue=0.0)
        factors = 1 + strength[:, None] * (amounts.factors - 1)
        return change(images, strength > 0, lambda take: colour.blend(*map(take, (images, amounts.kinds, factors))))


def foreground(images: Array) -> Array:
    """How much each pixel belongs to the item, f32[B, H, W] in [0, 1]: how far it is from the ground's colour.

    The ground is the median colour along the border of the image, f32[B, 3, H, W].
    """
    border = jnp.concatenate([images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]], axis=2)
    some = border[:, :, :: max(1, border.shape[2] // BORDER)]  # sorting all of them takes longer than all the rest
    ground = jnp.median(some, axis=2)
    difference = jnp.abs(images - ground[:, :, None, None]).max(1)
    return jnp.clip((difference - FAINT) / (CLEAR - FAINT), 0, 1)
