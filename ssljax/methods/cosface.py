"""CosFace (Wang et al. 2018, arXiv 1801.09414): a classifier of cosines, with a margin on the cosine."""

import dataclasses
from typing import ClassVar

from ssljax.losses import cosface
from ssljax.methods.base.supervised import WithMargin
from ssljax.types import Array, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class CosFace(WithMargin):
    """CosFace; the margin is a cosine. With a margin of 0 it is the normalised softmax."""

    largest_margin: ClassVar[float] = 1.0

    margin: Scheduled = 0.35
    """What is taken off the cosine with the item's own class: a number or a schedule."""

    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """Equation 4."""
        return cosface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))
