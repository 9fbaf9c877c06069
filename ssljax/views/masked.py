"""Masks over the patches of the global crops, for methods that predict what is hidden (iBOT, DINOv2)."""

import dataclasses
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ssljax.models import Preprocessing
from ssljax.types import Batch, UserError, check_fields, short
from ssljax.views.crops import MultiCrop

BLOCKS = 16  # drawn for each mask; their areas add up to several times what is to be masked
SMALLEST_BLOCK = 4  # patches


@dataclasses.dataclass(frozen=True)
class Masked:
    """The views of `crops`, and for each of the first two (the global crops) a mask of its patches.

    Every batch has the same number of masked crops, round(share x B), with masked shares spread evenly over `ratio`, as
    in DINOv2 (Oquab et al. 2023, arXiv 2304.07193), so that the loss has the same number of terms at each step. Which
    crop gets which share is drawn for each of the two views. iBOT (Zhou et al. 2022, arXiv 2111.07832) draws both for
    every crop. Masks are made of rectangles, like BEiT's (Bao et al. 2022, arXiv 2106.08254, algorithm 1).
    """

    crops: Any = MultiCrop()
    """The views: MultiCrop or TwoCrops."""
    patch: int = 16
    """Side of a patch, in pixels: the ViT's."""
    share: float = 0.5
    """Share of the crops that are masked."""
    ratio: tuple[float, float] = (0.1, 0.5)
    """Smallest and largest share of its patches that a masked crop loses."""

    def __post_init__(self):
        check_fields(self, "views", patch=1)
        if not hasattr(self.crops, "evaluation"):
            raise UserError(f"views.crops={short(self.crops)} must be views, such as MultiCrop()")
        if not 0 < self.share <= 1:
            raise UserError(f"views.share={self.share}: choose the share of the crops to mask, above 0 and at most 1")
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise UserError(f"views.ratio={self.ratio}: choose two shares above 0 and below 1, the smaller first")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views` and `masks`: two of bool[B, N], True = masked, patches row by row.

        Raises UserError if the views are not whole patches.
        """
        crops_rng, *mask_rngs = jax.random.split(rng, 3)
        batch = self.crops(crops_rng, batch)
        masks = tuple(self._mask(r, *v.shape[:2]) for r, v in zip(mask_rngs, batch["views"][:2], strict=True))
        return batch | {"masks": masks}

    def evaluation(self, batch: Batch) -> Batch:
        """The evaluation view of `crops`, and no mask."""
        return self.crops.evaluation(batch)

    def pixels(self, view: Array) -> Array:
        """As `crops` has it."""
        return self.crops.pixels(view)

    @property
    def preprocessing(self) -> Preprocessing:
        """As `crops` has it."""
        return self.crops.preprocessing

    def suited_to(self, preprocessing: Preprocessing) -> Self:
        """As `crops` has it."""
        suited = getattr(self.crops, "suited_to", None)
        return dataclasses.replace(self, crops=suited(preprocessing)) if suited else self

    def _mask(self, rng: Array, batch: int, size: int) -> Array:
        if size % self.patch:
            raise UserError(
                f"views.patch={self.patch} does not divide the side of the global crops, views.crops.size={size}: try "
                f"views.crops.size={math.ceil(size / self.patch) * self.patch}"
            )
        side = size // self.patch
        ratios = np.zeros(batch)
        masked = round(self.share * batch)
        ratios[:masked] = np.linspace(*self.ratio, masked)
        counts = jnp.asarray(np.round(ratios * side**2), jnp.int32)
        order_rng, block_rng = jax.random.split(rng)
        return block_masks(block_rng, jax.random.permutation(order_rng, counts), side)


def block_masks(rng: Array, counts: Array, side: int) -> Array:
    """Masks of exactly `counts` patches, in rectangles.

    Rectangles of 4 to `counts` patches, with a width / height log-uniform in (0.3, 1 / 0.3), are laid one after another
    until the count is reached; the last is cut to fit, at its lower or its upper end.

    Args:
        rng: a random key.
        counts: i32[B], at most side x side.
        side: patches along a side.

    Returns:
        bool[B, side * side].
    """
    area_rng, shape_rng, place_rng, end_rng = jax.random.split(rng, 4)
    batch = len(counts)
    largest = counts[:, None].astype(jnp.float32)
    smallest = jnp.minimum(SMALLEST_BLOCK, largest)
    area = smallest + jax.random.uniform(area_rng, (batch, BLOCKS)) * (largest - smallest)
    shape = jnp.exp(jax.random.uniform(shape_rng, (batch, BLOCKS), minval=math.log(0.3), maxval=-math.log(0.3)))
    extent = jnp.sqrt(jnp.stack([area / shape, area * shape]))  # height and width
    extent = jnp.clip(jnp.round(extent), 1, side)
    start = jnp.floor(jax.random.uniform(place_rng, extent.shape) * (side - extent + 1))

    line = jnp.arange(side)[None, None, None]
    rows, columns = (line >= start[..., None]) & (line < (start + extent)[..., None])
    covered = (rows[:, :, :, None] & columns[:, :, None, :]).reshape(batch, BLOCKS, side**2)
    first = jnp.where(covered.any(1), jnp.argmax(covered, axis=1), BLOCKS)  # the first rectangle over each patch
    position = jnp.arange(side**2)[None]
    position = jnp.where(jax.random.bernoulli(end_rng, shape=(batch, 1)), position, side**2 - 1 - position)
    # The patches in the order in which they are masked: rectangle by rectangle, from the top or from the bottom.
    place = jnp.argsort(jnp.argsort(first * side**2 + position, axis=1), axis=1)
    return place < counts[:, None]
