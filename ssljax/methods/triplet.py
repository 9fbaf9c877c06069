"""Triplet (Schroff et al. 2015, arXiv 1503.03832): an item is nearer to its class than to others, by a margin."""

import dataclasses

from ssljax.losses import References, active_triplets, triplet
from ssljax.losses.metric import Mining
from ssljax.methods.base.supervised import WithMemory
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class Triplet(WithMemory):
    """Triplets mined in the batch; batch_hard is that of Hermans et al. 2017, for batches of P classes x K items."""

    mining: Mining = "batch_hard"
    """Which triplets count: all, easy, semi_hard, hard, or of each anchor the hardest."""
    margin: Scheduled = 0.2
    """Distance of unit vectors by which negatives must be further away: a number or a schedule."""
    soft: bool = False
    """log(1 + exp(x)) instead of max(0, x): triplets beyond the margin go on to pull a little."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.margin", self.margin, least=0, most=2)
        return super().init(rng, batch)

    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """Section 3.1, with distances that are not squared."""
        margin = value_at(self.margin, progress)
        return triplet(z, labels, margin=margin, mining=self.mining, soft=self.soft, references=references)

    def figures(self, z: Array, labels: Array, progress: Progress) -> Metrics:
        """The share of triplets that violate the margin."""
        return {"active_triplets": active_triplets(z, labels, margin=value_at(self.margin, progress))}
