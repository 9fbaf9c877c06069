"""What a disturbance of a photo is: something that shops and sellers do to photos and that must not matter."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Disturbance(abc.ABC):
    """Happens to some of the images, to each with a strength of its own; a disturbance gives `disturb`."""

    probability: float = 0.5
    """How often it happens to a view."""
    strength: float = 0.5
    """The largest strength: each view's is uniform from 0 to it; 1 is as much as is seen in shops."""

    def __post_init__(self):
        name = type(self).__name__
        check_fields(self, name)
        for field in ("probability", "strength"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise UserError(f"{name}.{field}={value}: choose from 0 to 1")

    def __call__(self, rng: Array, images: Array) -> Array:
        """f32[B, 3, H, W] in [0, 1], the images f32[B, 3, H, W] with or without it, at random."""
        choice_rng, strength_rng, rng = jax.random.split(rng, 3)
        chosen = jax.random.bernoulli(choice_rng, self.probability, images.shape[:1])
        strength = self.strength * jax.random.uniform(strength_rng, images.shape[:1])
        strength = jnp.where(chosen, strength, 0)
        return self.disturb(rng, images, strength)

    @abc.abstractmethod
    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """f32[B, 3, H, W] in [0, 1], each image disturbed by its strength f32[B] in [0, 1]; at 0 it stays as it is.

        Each image's result depends on the image, its strength, and its place in the batch alone, unless the
        disturbance mixes images. What is costly belongs into `parts.change`, which does it for the chosen ones alone.
        """
