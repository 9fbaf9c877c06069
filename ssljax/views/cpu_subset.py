"""Some of the images of a batch: what a CPU need not compute for all of them, it computes for a few at a time."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

PART = 8  # images: few enough for a cache, and enough for a step of a loop to be worth its while


class Take(Protocol):
    """Gives the rows that belong to some images out of an array [B, ...] that has one for each image of the batch."""

    def __call__(self, array: Array, ahead: int = 0) -> Array:
        """[N, ...]; with `ahead`, the rows of the images that follow as many places after, the first after the last.

        In a batch of a multiple of PART that is within the PART consecutive images that each is among: they lie on one
        device, if a device has as many, and no image moves.
        """


def on_one_cpu() -> bool:
    """Whether there are no devices between which the images of a batch might be divided, and it is a CPU."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def change(images: Array, chosen: Array, changed: Callable[[Take], Array]) -> Array:
    """The images f32[B, 3, H, W], those chosen by bool[B] changed.

    `changed` makes N images f32[N, 3, H, W] from what it takes of the batch's arrays. On accelerators, and of images
    that may be divided between devices, that is once, for all of them; on one CPU as often as needed for the chosen.
    """
    batch = len(images)
    ring = PART if batch % PART == 0 else batch
    if not on_one_cpu():

        def take_all(array: Array, ahead: int = 0) -> Array:
            rings = array.reshape(-1, ring, *array.shape[1:])
            return jnp.roll(rings, -ahead, axis=1).reshape(array.shape) if ahead else array

        result = changed(take_all)
        return jnp.where(chosen[:, None, None, None], result, images)
    size = min(PART, batch)
    chosen_first = jnp.argsort(~chosen)

    def step(k: Array, result: Array) -> Array:
        # The last part begins earlier if it would end after the batch: some images are then changed twice, to the same.
        rows = jax.lax.dynamic_slice_in_dim(chosen_first, k * size, size)

        def take(array: Array, ahead: int = 0) -> Array:
            return array.at[rows // ring * ring + (rows + ahead) % ring].get(mode="promise_in_bounds")

        part = jnp.where(take(chosen)[:, None, None, None], changed(take), take(images))
        return result.at[rows].set(part, mode="promise_in_bounds", unique_indices=True)

    return jax.lax.fori_loop(0, (chosen.sum() + size - 1) // size, step, images)
