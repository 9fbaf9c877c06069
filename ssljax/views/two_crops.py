"""Two random views of each photo, for methods that make them agree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.types import Batch, UserError
from ssljax.views.augment import Augmentation, augment
from ssljax.views.one_crop_each import OneCropEach


@dataclasses.dataclass(frozen=True)
class TwoCrops(OneCropEach):
    """Two random crops of each photo; the augmentation's own fields are those of the first.

    Both views alike, as in MoCo and SimCLR: `TwoCrops(size=32, blur=0.0)`. Different, as in BYOL:
    `TwoCrops(size=32, blur=1.0, second=Augmentation(blur=0.1, solarise=0.2))`.
    """

    second: Any = None
    """The second view's `Augmentation`; None for the same as the first's."""
    natural: float = 0.0
    """Share of the items whose second view is of another photo of the listing ("natural views"); the others' is of the
    same photo. It takes `sampler=Listings()`."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.natural <= 1:
            raise UserError(f"views.natural={self.natural} is not a share: choose from 0 to 1")
        if not (self.second is None or isinstance(self.second, Augmentation)):
            raise UserError(f"views.second={self.second!r} must be an Augmentation, or None")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: two arrays f32[B, size, size, 3], normalised.

        Raises UserError if natural views are wanted and the batch has one photo an item.
        """
        rng1, rng2 = jax.random.split(rng)
        first, other = self._photos(rng, batch, 0.0), self._photos(rng, batch, self.natural)
        views = (augment(rng1, *first, self.size, self), augment(rng2, *other, self.size, self.second or self))
        return batch | {"views": tuple(map(self._normalise, views))}

    def _photos(self, rng: Array, batch: Batch, share: float) -> tuple[Array, Array]:
        """u8[B, S, S, 3] and f32[B]: a photo of each item and its aspect ratio, in a `share` of them the second."""
        image, aspect = batch["image"], batch["aspect"]
        if not share:
            return image[:, 0], aspect[:, 0]
        if image.shape[1] < 2:
            raise UserError(f"views.natural={self.natural} needs two photos of a listing: choose sampler=Listings()")
        second = jax.random.bernoulli(jax.random.fold_in(rng, 3), share, aspect.shape[:1])
        chosen = jnp.where(second[:, None, None, None], image[:, 1], image[:, 0])
        return chosen, jnp.where(second, aspect[:, 1], aspect[:, 0])
