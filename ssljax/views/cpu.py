"""Fast forms for a machine with one CPU: they work on a few images at a time, and only on those that change."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.models.weights.preprocessing import Filter
from ssljax.views.resample import REACH, Box, resize_weights, weigh

if TYPE_CHECKING:
    from ssljax.views.disturbances.disturbance import Take

PART = 8  # images at a time: few enough for the cache, enough to be worth a step of a loop


def resize(
    photos: Array,
    box: Box,
    size: int,
    flip: Array | None = None,
    precision: str = "highest",
    filter: Filter = "bilinear",
) -> Array:
    """As `boxes.resize`, a few photos at a time; a CPU has one precision."""

    def resized(one: tuple[Array, tuple[Box, Array | None]]) -> Array:
        photo, (box, flip) = one
        return _resize_one(photo, box, flip, size, filter)

    boxes = jax.tree.map(lambda side: side.reshape(len(photos), -1), (box, flip))
    crops = jax.lax.map(resized, (photos, boxes), batch_size=PART)
    return crops.reshape(-1, *crops.shape[2:])


def _resize_one(photo: Array, box: Box, flip: Array | None, size: int, filter: Filter) -> Array:
    """f32[n, 3, size, size] of one photo, u8[S, S, 3]: adds up the few rows with a weight, without a matrix product."""
    source = photo.shape[0]
    step = box.height[:, None] * (source / size)
    center = box.top[:, None] * source + (jnp.arange(size)[None] + 0.5) * step
    unit = jnp.maximum(step, 1)
    reach = REACH[filter] * unit
    taps = min(source, math.ceil(2 * REACH[filter] * max(1, source / size)))  # within `reach` of a center, at most
    first = jnp.clip(jnp.floor(center - reach + 0.5).astype(jnp.int32), 0, source - taps)

    planes = photo.transpose(2, 0, 1)
    total, weights = jnp.zeros(()), jnp.zeros(())
    for tap in range(taps):
        weight = weigh(jnp.abs(first + tap + 0.5 - center) / unit, filter)
        row = planes.at[:, first + tap].get(mode="promise_in_bounds").astype(jnp.float32)  # f32[3, n, size, S]
        total, weights = total + weight[None, :, :, None] * row, weights + weight
    total = total / weights[None, :, :, None]
    if photo.dtype == jnp.uint8:
        total = total / 255
    columns = resize_weights(box.left, box.width, photo.shape[1], size, flip, filter)
    return jnp.einsum("cnhx,nwx->nchw", total, columns, precision="highest")


def change(images: Array, chosen: Array, changed: "Callable[[Take], Array]") -> Array:
    """As `disturbance.change`, for the images chosen alone, a few at a time."""
    batch = len(images)
    ring = PART if batch % PART == 0 else batch
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
