"""The augmentation of one view: what may happen to a photo, how often and how strongly."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.sharding import on_cpu
from ssljax.types import UserError, check_fields, short
from ssljax.views import colour
from ssljax.views.blur import blur
from ssljax.views.boxes import random_boxes, resize
from ssljax.views.disturbances.disturbance import Disturbance
from ssljax.views.resample import PRECISION


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random resized crop, flip, colour jitter, grey, blur, solarisation and disturbances, in this order.

    The defaults are those of MoCo v2 (Chen et al. 2020). A probability of 0 costs nothing.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest area of the crop, as a share of the photo's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of the crop."""
    flip: float = 0.5
    """Probability of mirroring left to right."""
    jitter: float = 0.8
    """Probability of changing brightness, contrast, saturation and hue, in random order."""
    brightness: float = 0.4
    """Brightness is multiplied by up to 1 ± this."""
    contrast: float = 0.4
    """Contrast is multiplied by up to 1 ± this."""
    saturation: float = 0.4
    """Saturation is multiplied by up to 1 ± this."""
    hue: float = 0.1
    """The hue is turned by up to ± this, in turns of the colour circle (at most 0.5)."""
    grey: float = 0.2
    """Probability of taking the colour away."""
    blur: float = 0.5
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest sigma of the blur, in pixels of the view."""
    solarise: float = 0.0
    """Probability of inverting what is brighter than a half."""
    disturbances: tuple[Any, ...] = ()
    """What shops do to photos, in this order: (Watermark(probability=0.3), Collage(), JPEG())."""

    def __post_init__(self):
        check_fields(self, "views", brightness=0, contrast=0, saturation=0)
        for name in ("flip", "jitter", "grey", "blur", "solarise"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"views.{name}={value} is not a probability: choose from 0 to 1")
        for name in ("scale", "ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UserError(f"views.{name}=({low}, {high}): choose two positive numbers, the smaller first")
        if self.scale[1] > 1:
            raise UserError(f"views.scale={self.scale} is larger than the photo: choose two shares, at most 1.0")
        if not 0 <= self.hue <= 0.5:
            raise UserError(f"views.hue={self.hue}: choose from 0 to 0.5 turns of the colour circle")
        for k, disturbance in enumerate(self.disturbances):
            if not isinstance(disturbance, Disturbance):
                raise UserError(f"views.disturbances.{k}={short(disturbance)} must be a disturbance, such as JPEG()")


def augment(rng: Array, photos: Array, aspect: Array, size: int, augmentation: Augmentation, count: int = 1) -> Array:
    """Random views of every photo.

    Args:
        rng: a random key.
        photos: u8[B, S, S, 3], or f32 in [0, 1]: whole photos, squashed to squares.
        aspect: f32[B], width / height before that.
        size: side of the view, in pixels.
        augmentation: what may happen to a photo.
        count: how many views of each photo.

    Returns:
        f32[B * count, size, size, 3] in [0, 1], not normalised: the views of the first photo, of the second, and so on,
        so that a batch split over devices stays where it is.
    """
    choice_rng, crop_rng, jitter_rng, blur_rng = jax.random.split(rng, 4)
    disturbance_rng = jax.random.fold_in(rng, 4)
    a, aspect = augmentation, jnp.repeat(aspect, count)
    probabilities = jnp.array([a.flip, a.jitter, a.grey, a.blur, a.solarise], jnp.float32)
    flips, jitters, greys, blurs, solarises = jax.random.bernoulli(
        choice_rng, probabilities[:, None], (len(probabilities), len(aspect))
    )

    boxes = random_boxes(crop_rng, aspect, a.scale, a.ratio)
    images = resize(photos, boxes, size, flips if a.flip else None, PRECISION)
    if a.jitter:
        amounts = colour.draw_jitter(jitter_rng, jitters, a.brightness, a.contrast, a.saturation, a.hue)
        images = colour.jitter(images, amounts)
    if a.grey:
        images = colour.drop_colour(images, greys)
    if a.blur:
        sigma = jax.random.uniform(blur_rng, aspect.shape, minval=a.blur_sigma[0], maxval=a.blur_sigma[1])
        images = blur(images, sigma, blurs)
    if a.solarise:
        images = colour.solarise(images, solarises)
    for k, disturb in enumerate(a.disturbances):
        images = disturb(jax.random.fold_in(disturbance_rng, k), images)
    return channels_last(images)


def _stacked(images: Array) -> Array:
    """As `channels_last`: XLA for CPUs would fuse a transpose with what comes before, and not vectorise that."""
    return jnp.stack(jnp.unstack(images, axis=1), axis=-1)


@on_cpu(_stacked)
def channels_last(images: Array) -> Array:
    """f32[B, H, W, 3] of f32[B, 3, H, W]."""
    return images.transpose(0, 2, 3, 1)  # a choice of layout, no work
