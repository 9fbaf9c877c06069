"""MoBY (Xie et al. 2021, arXiv 2105.04553): MoCo's queue and BYOL's predictor; and MoCo v2+, which is its special case.

Made for Vision and Swin Transformers: drop path in the student only, which is what an encoder's `drop_path` does here.
"""

import dataclasses
import functools
from typing import Any

from ssljax.losses import info_nce, l2_normalise
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.teachers import WithPredictor
from ssljax.models import MLP
from ssljax.queue import enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class MoBY(WithPredictor):
    """MoBY. solo-learn's MoCo v2+ is `MoBY(predictor=Identity(), scale=.5)` with its projector and momentum."""

    projector: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    queue_size: int = 4096
    """Keys of past batches in each of the two queues; a multiple of the batch size."""
    temperature: Scheduled = 0.2
    """Divides the cosines: a number or a schedule."""
    scale: float = 1.0
    """Multiplies the sum of the two directions: .5 makes it their mean."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        queue = self.empty_queue(self.queue_size, params, aux, batch)
        return params, dataclasses.replace(aux, queue=(queue, queue))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1: each view's prediction against the other's key and past keys; the directions are summed."""
        (student1, student2), keys, aux = self.train_both(params, aux, batch, rng)
        k1, k2 = map(l2_normalise, keys)
        queue1, queue2 = aux.queue
        contrast = functools.partial(info_nce, temperature=value_at(self.temperature, progress))
        loss = contrast(student1["predictor"], k2, queue2.flat, valid=queue2.valid)
        loss += contrast(student2["predictor"], k1, queue1.flat, valid=queue1.valid)
        aux = dataclasses.replace(aux, queue=(enqueue(queue1, k1), enqueue(queue2, k2)))
        return self.scale * loss, (aux, {**pair_figures(student1["encoder"], k1, k2), "queue_fill": queue1.fill})
