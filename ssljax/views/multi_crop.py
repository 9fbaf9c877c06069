"""Two large crops of each photo and many small ones, for methods that match parts with the whole."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.types import Batch, UserError
from ssljax.views.augment import Augmentation, augment
from ssljax.views.two_crops import TwoCrops


@dataclasses.dataclass(frozen=True)
class MultiCrop(TwoCrops):
    """The two global crops of `TwoCrops`, and local crops, which show less of the photo in fewer pixels.

    With natural views the local crops are of the second photo in half as many items as the second global crop.

    The defaults are those of DINO's code (Caron et al. 2021, arXiv 2104.14294); its paper has global crops of at least
    0.25 of the photo. SwAV (Caron et al. 2020, arXiv 2006.09882) with SimCLR's colours:

        colours = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
        MultiCrop(
            **colours, scale=(0.14, 1.0), second=None,
            local=Augmentation(**colours, scale=(0.05, 0.14)), local_count=6,
        )
    """

    scale: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest area of the first global crop, as a share of the photo's."""
    saturation: float = 0.2
    """Saturation is multiplied by up to 1 ± this."""
    blur: float = 1.0
    """Probability of Gaussian blur."""
    second: Any = Augmentation(scale=(0.4, 1.0), saturation=0.2, blur=0.1, solarise=0.2)
    """The second global crop's `Augmentation`; None for the same as the first's."""
    local: Any = Augmentation(scale=(0.05, 0.4), saturation=0.2, blur=0.5)
    """The local crops' `Augmentation`."""
    local_size: int = 96
    """Side of a local crop, in pixels."""
    local_count: int = 8
    """Local crops of each photo; 0 for none."""

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.local, Augmentation):
            raise UserError(
                f"views.local={self.local!r} must be an Augmentation, such as Augmentation(scale=(0.05, 0.4))"
            )
        if self.local_size < 2:
            raise UserError(
                f"views.local_size={self.local_size}: choose the side of a crop in pixels, such as 16 or 96"
            )
        if self.local_count < 0:
            raise UserError(f"views.local_count={self.local_count}: choose 0 for no local crops, or a positive number")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: the two of `TwoCrops`, then `local_count` of f32[B, local_size, local_size, 3]."""
        batch = super().__call__(rng, batch)
        if not self.local_count:
            return batch
        crops = augment(
            jax.random.fold_in(rng, 2),  # the two global crops have the keys 0 and 1
            *self._photos(rng, batch, self.natural / 2),
            self.local_size,
            self.local,
            self.local_count,
        )
        crops = self._normalise(crops).reshape(-1, self.local_count, *crops.shape[1:])
        return batch | {"views": (*batch["views"], *jnp.unstack(crops, axis=1))}
