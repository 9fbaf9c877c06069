"""Lifted (Song et al. 2016, arXiv 1511.06452): each positive pair against all the negatives of both its items."""

import dataclasses

from ssljax.losses import References, lifted_structure
from ssljax.methods.base.supervised import WithMemory
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class Lifted(WithMemory):
    """The lifted structured loss."""

    margin: Scheduled = 1.0
    """Distance of unit vectors by which negatives should be further away: a number or a schedule."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.margin", self.margin, least=0, most=2)
        return super().init(rng, batch)

    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """Equation 4."""
        return lifted_structure(z, labels, margin=value_at(self.margin, progress), references=references)
