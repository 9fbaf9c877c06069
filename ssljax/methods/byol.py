"""BYOL (Grill et al. 2020, arXiv 2006.07733): a student's predictor meets a teacher's projection; no negatives."""

import dataclasses
from typing import Any

from ssljax.losses import byol
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.teachers import WithPredictor
from ssljax.models import MLP
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress


@dataclasses.dataclass(frozen=True)
class BYOL(WithPredictor):
    """BYOL; without the predictor (`models.Identity()`) it collapses, as in the paper's table 5."""

    projector: Any = MLP(hidden=(4096,), out=256, batch_norm=True, last_bias=False)
    """Maps embeddings to what the loss compares."""
    predictor: Any = MLP(hidden=(4096,), out=256, batch_norm=True, last_bias=False)
    """Maps the student's projection to the teacher's."""

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Equation 2, both directions."""
        (student1, student2), (z1, z2), aux = self.train_both(params, aux, batch, rng)
        loss = byol(student1["predictor"], z2, student2["predictor"], z1)
        return loss, (aux, pair_figures(student1["encoder"], z1, z2))
