"""SupCon (Khosla et al. 2020, arXiv 2004.11362): all views of all items of a label attract."""

import dataclasses
from typing import Any

from ssljax.losses import References, sup_con
from ssljax.methods.base.supervised import WithMemory
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class SupCon(WithMemory):
    """Supervised contrastive learning."""

    projector: Any = MLP(hidden=(2048,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    temperature: Scheduled = 0.1
    """Divides the cosines: a number or a schedule."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.temperature", self.temperature, above=0)
        return super().init(rng, batch)

    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """Equation 2."""
        return sup_con(z, labels, temperature=value_at(self.temperature, progress), references=references)
