"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an item attract, all others of the batch repel."""

import dataclasses
from typing import Any

from ssljax.losses import nt_xent
from ssljax.methods.base.one_network import Pairwise
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Batch, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class SimCLR(Pairwise):
    """SimCLR: NT-Xent over the batch, no teacher, no queue."""

    projector: Any = MLP(hidden=(512,), out=128, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    temperature: Scheduled = 0.2
    """Divides the cosines: a number or a schedule."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)

    def compare(self, z1: Array, z2: Array, progress: Progress) -> Array:
        """Algorithm 1."""
        return nt_xent(z1, z2, temperature=value_at(self.temperature, progress))
