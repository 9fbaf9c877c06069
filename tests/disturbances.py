"""Disturbances that say beforehand what comes of them."""

import dataclasses

import jax
import jax.numpy as jnp

from ssljax.views.disturbance import Disturbance


@dataclasses.dataclass(frozen=True)
class Unchanged(Disturbance):
    """Nothing happens."""

    def disturb(self, rng, images, strength):
        return images


@dataclasses.dataclass(frozen=True)
class Darker(Disturbance):
    """Black at strength 1; nothing random."""

    def disturb(self, rng, images, strength):
        return images * (1 - strength)[:, None, None, None]


@dataclasses.dataclass(frozen=True)
class Noise(Disturbance):
    """Nothing but noise at strength 1."""

    def disturb(self, rng, images, strength):
        strength = strength[:, None, None, None]
        return (1 - strength) * images + strength * jax.random.uniform(rng, images.shape)


@dataclasses.dataclass(frozen=True)
class Neighbour(Disturbance):
    """The batch's next photo shows through: an image depends on another."""

    def disturb(self, rng, images, strength):
        strength = strength[:, None, None, None] / 2
        return (1 - strength) * images + strength * jnp.roll(images, 1, axis=0)
