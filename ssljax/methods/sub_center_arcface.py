"""SubCenterArcFace (Deng et al. 2020, ECCV): ArcFace with several centres a class, for classes with noise or modes."""

import dataclasses

from ssljax.losses import sub_center_arcface
from ssljax.methods.base.supervised import WithMargin
from ssljax.types import Array, Aux, Batch, Params, Progress, UserError


@dataclasses.dataclass(frozen=True)
class SubCenterArcFace(WithMargin):
    """Sub-center ArcFace; an item belongs to the nearest of its class's centres."""

    centers: int = 3
    """Centres of each class."""

    def shape(self, features: int) -> tuple[int, ...]:
        """See `AgainstClasses.shape`."""
        return self.classes, self.centers, features

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if self.centers < 1:
            raise UserError(f"method.centers={self.centers} is too small: it must be at least 1")
        return super().init(rng, batch)

    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """Section 3."""
        return sub_center_arcface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))
