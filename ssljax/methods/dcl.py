"""DCL and DCLW (Yeh et al. 2022, arXiv 2110.06848): SimCLR without the positive in the denominator."""

import dataclasses
from typing import Any

from ssljax.losses import decoupled
from ssljax.methods.base.one_network import Pairwise
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Batch, Progress, Scheduled, UserError


@dataclasses.dataclass(frozen=True)
class DCL(Pairwise):
    """Decoupled contrastive learning: less in need of large batches than SimCLR; DCLW with a sigma."""

    projector: Any = MLP(hidden=(512,), out=128, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    temperature: Scheduled = 0.1
    """Divides the cosines: a number or a schedule."""
    sigma: float | None = None
    """Width of DCLW's weighting of the positives, published as .5; None leaves them alike."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)
        if self.sigma is not None and not self.sigma > 0:
            raise UserError(f"method.sigma={self.sigma} must be above 0, such as 0.5, or None")

    def compare(self, z1: Array, z2: Array, progress: Progress) -> Array:
        """Equations 6 and 7."""
        return decoupled(z1, z2, temperature=value_at(self.temperature, progress), sigma=self.sigma)
