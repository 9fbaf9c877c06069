"""MoCo v3 (Chen et al. 2021, arXiv 2104.02057): the other items' keys of the batch in place of a queue, a predictor."""

import dataclasses
from typing import Any

from ssljax.losses import in_batch_info_nce
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.teachers import WithPredictor
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class MoCoV3(WithPredictor):
    """MoCo v3; large batches, and for a ViT the frozen patch projection, are what its paper advises."""

    projector: Any = MLP(hidden=(4096,), out=256, batch_norm=True, last_batch_norm=True, last_affine=False)
    """Maps embeddings to what the loss compares."""
    predictor: Any = MLP(hidden=(4096,), out=256, batch_norm=True, last_batch_norm=True, last_affine=False)
    """Maps the student's projection to the teacher's."""
    temperature: Scheduled = 0.2
    """Divides the cosines: a number or a schedule."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1: 2 x temperature x cross-entropy, the two directions summed."""
        (student1, student2), (k1, k2), aux = self.train_both(params, aux, batch, rng)
        temperature = value_at(self.temperature, progress)
        loss = in_batch_info_nce(student1["predictor"], k2, temperature=temperature)
        loss += in_batch_info_nce(student2["predictor"], k1, temperature=temperature)
        return 2 * temperature * loss, (aux, pair_figures(student1["encoder"], k1, k2))
