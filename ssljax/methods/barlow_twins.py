"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the features of two views correlate each with itself alone."""

import dataclasses
from typing import Any

from ssljax.losses import barlow_twins
from ssljax.methods.base.one_network import Pairwise
from ssljax.models import MLP
from ssljax.types import Array, Progress


@dataclasses.dataclass(frozen=True)
class BarlowTwins(Pairwise):
    """Barlow Twins: no negatives, no teacher; wide projections help."""

    projector: Any = MLP(hidden=(2048, 2048), out=2048, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    lambd: float = 0.005
    """Weight of the correlations between different features."""
    scale: float = 1.0
    """Multiplies the loss, which is a sum over features: .1 with LARS at a rate of .3 (solo-learn), .025 with SGD."""

    def compare(self, z1: Array, z2: Array, progress: Progress) -> Array:
        """Algorithm 1."""
        return self.scale * barlow_twins(z1, z2, lambd=self.lambd)
