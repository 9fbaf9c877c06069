"""ArcFace (Deng et al. 2019, arXiv 1801.07698): a classifier of cosines, with a margin on the angle."""

import dataclasses

from ssljax.losses import arcface
from ssljax.methods.base.supervised import WithMargin
from ssljax.types import Array, Progress


@dataclasses.dataclass(frozen=True)
class ArcFace(WithMargin):
    """ArcFace; the margin is in radians."""

    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """Equation 3."""
        return arcface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))
