"""The base of all disturbances: changes that shops and sellers make to photos and that embeddings should ignore."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.sharding import on_cpu, one_cpu
from ssljax.types import UserError, check_fields
from ssljax.views import cpu


@dataclasses.dataclass(frozen=True)
class Disturbance(abc.ABC):
    """Changes some of the images, each with a random strength. Subclasses define `disturb`."""

    probability: float = 0.5
    """Probability that a view is disturbed."""
    strength: float = 0.5
    """Largest strength; a view's is uniform from 0 to it. 1 is as strong as what shops do."""

    def __post_init__(self):
        name = type(self).__name__
        check_fields(self, name)
        for field in ("probability", "strength"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise UserError(f"{name}.{field}={value}: choose from 0 to 1")

    def __call__(self, rng: Array, images: Array) -> Array:
        """f32[B, 3, H, W] in [0, 1], the images f32[B, 3, H, W], some of them disturbed at random."""
        choice_rng, strength_rng, rng = jax.random.split(rng, 3)
        chosen = jax.random.bernoulli(choice_rng, self.probability, images.shape[:1])
        strength = self.strength * jax.random.uniform(strength_rng, images.shape[:1])
        strength = jnp.where(chosen, strength, 0)
        return self.disturb(rng, images, strength)

    @abc.abstractmethod
    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """f32[B, 3, H, W] in [0, 1], each image disturbed by its strength f32[B] in [0, 1]; 0 leaves it unchanged.

        The result for an image depends only on the image, its strength and its place in the batch, unless the
        disturbance mixes images. Pass expensive work to `change`, which on a CPU does it only where needed.
        """


class Take(Protocol):
    """Takes the rows of some images from an array [B, ...] that has a row for each image of the batch."""

    def __call__(self, array: Array, ahead: int = 0) -> Array:
        """[N, ...]; with `ahead`, the rows of the images that follow so many places later, the first after the last.

        In a batch of a multiple of `cpu.PART` these are among PART consecutive images that include the image itself:
        they lie on one device, if each device has as many, and no image moves.
        """
        ...


@on_cpu(cpu.change, when=one_cpu)
def change(images: Array, chosen: Array, changed: Callable[[Take], Array]) -> Array:
    """The images f32[B, 3, H, W], with those chosen by bool[B] changed.

    `changed` makes N images f32[N, 3, H, W] of what it takes from the batch's arrays. It is called once, for all
    images; on one CPU, where they cannot be divided between devices, as often as needed for those chosen.
    """
    batch = len(images)
    ring = cpu.PART if batch % cpu.PART == 0 else batch

    def take(array: Array, ahead: int = 0) -> Array:
        rings = array.reshape(-1, ring, *array.shape[1:])
        return jnp.roll(rings, -ahead, axis=1).reshape(array.shape) if ahead else array

    return jnp.where(chosen[:, None, None, None], changed(take), images)
