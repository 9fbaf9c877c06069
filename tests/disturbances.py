"""Disturbances whose effect is known beforehand, all of the package's, and photos to disturb."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.views import (
    JPEG,
    BorderCrop,
    Collage,
    HueShift,
    Light,
    Padding,
    Perspective,
    Recolour,
    Rotation,
    ScreenshotBars,
    Scribble,
    Watermark,
)
from ssljax.views.disturbances.disturbance import Disturbance

ALONE = [
    BorderCrop,
    HueShift,
    JPEG,
    Light,
    Padding,
    Perspective,
    Recolour,
    Rotation,
    ScreenshotBars,
    Scribble,
    Watermark,
]
every = pytest.mark.parametrize("kind", [*ALONE, Collage])
alone = pytest.mark.parametrize("kind", ALONE)
disturb = jax.jit(lambda kind, rng, images, strength: kind().disturb(rng, images, strength), static_argnums=0)
apply = jax.jit(lambda disturbance, rng, images: disturbance(rng, images), static_argnums=0)


def items(batch=48, height=20, width=20, seed=0):
    """f32[B, 3, H, W]: an item of two colours, of some place and size, on a bright ground, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][:, None] / np.array([height, width])[:, None, None, None]
    centre, size = rng.uniform(0.4, 0.6, (2, batch, 1, 1)), rng.uniform(0.2, 0.35, (batch, 1, 1))
    inside = (np.hypot(y - centre[0], x - centre[1]) < size)[:, None]
    upper, lower = rng.uniform(0.1, 0.7, (2, batch, 3, 1, 1)) * np.array([1, 0.6, 0.3])[:, None, None]
    item = np.where((y < centre[0])[:, None], upper, lower)
    ground = rng.uniform(0.85, 0.97, (batch, 1, 1, 1))
    images = np.where(inside, item, ground) + rng.normal(0, 0.005, (batch, 3, height, width))
    return jnp.asarray(np.clip(images, 0, 1), jnp.float32)


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
