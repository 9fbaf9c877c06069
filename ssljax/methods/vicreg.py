"""VICReg (Bardes et al. 2022, arXiv 2105.04906): invariance, variance and covariance, each a term of the loss."""

import dataclasses
from typing import Any

from ssljax.losses import vicreg
from ssljax.methods.base.one_network import Pairwise
from ssljax.models import MLP
from ssljax.types import Array, Progress


@dataclasses.dataclass(frozen=True)
class VICReg(Pairwise):
    """VICReg: no negatives, no teacher, no normalisation of the projections."""

    projector: Any = MLP(hidden=(2048, 2048), out=2048, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    invariance: float = 25.0
    """Weight of the views' mean squared difference."""
    variance: float = 25.0
    """Weight of the hinge that keeps each feature's standard deviation at 1."""
    covariance: float = 1.0
    """Weight of the squared covariances between features."""

    def compare(self, z1: Array, z2: Array, progress: Progress) -> Array:
        """Equation 6."""
        return vicreg(z1, z2, invariance=self.invariance, variance=self.variance, covariance=self.covariance)
