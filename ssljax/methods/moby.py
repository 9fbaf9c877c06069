"""MoBY (Xie et al. 2021, arXiv 2105.04553): MoCo's queue and BYOL's predictor; and MoCo v2+, which is its special case.

Made for Vision and Swin Transformers: drop path in the student only, which is what an encoder's `drop_path` does here.
"""

import dataclasses
from typing import Any

from ssljax.losses import info_nce, l2_normalise
from ssljax.methods.base.checks import check_pair
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.with_teacher import TeacherAux, WithPredictor
from ssljax.models import MLP
from ssljax.queue import Queue, empty_queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, Scheduled, pytree


@pytree
class MoBYAux(TeacherAux):
    """And a queue of the teacher's keys for each of the two views."""

    queue1: Queue
    queue2: Queue


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

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_pair(batch)
        check_schedule("method.temperature", self.temperature, above=0)
        params, aux = self.start(rng, batch)
        images = batch["views"][0]
        width = self.network.width("projector", params, aux.stats, images)
        queue = empty_queue(self.queue_size, images.shape[0], width)
        return params, MoBYAux(**vars(aux), queue1=queue, queue2=queue)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Algorithm 1: each view's prediction against the other's key and past keys; the directions are summed."""
        (student1, student2), keys, aux = self.train_both(params, aux, batch, rng)
        k1, k2 = map(l2_normalise, keys)
        temperature = value_at(self.temperature, progress)
        loss = sum(
            info_nce(student["predictor"], key, queue.flat, temperature=temperature, valid=queue.valid)
            for student, key, queue in ((student1, k2, aux.queue2), (student2, k1, aux.queue1))
        )
        aux = dataclasses.replace(
            aux,
            queue1=enqueue(aux.queue1, k1),
            queue2=enqueue(aux.queue2, k2),
        )
        figures = pair_figures(student1["encoder"], k1, k2)
        return self.scale * loss, (aux, {**figures, "queue_fill": aux.queue1.fill})
