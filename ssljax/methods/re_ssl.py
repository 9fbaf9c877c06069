"""ReSSL (Zheng et al. 2021, arXiv 2107.09282): a student's relations to past items follow a teacher's."""

import dataclasses
from typing import Any

from jax.lax import stop_gradient

from ssljax.losses import l2_normalise, re_ssl
from ssljax.methods.base.checks import check_pair
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.with_teacher import TeacherAux, WithTeacher
from ssljax.models import MLP
from ssljax.queue import Queue, empty_queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, Scheduled, pytree


@pytree
class ReSSLAux(TeacherAux):
    """And the queue of the teacher's keys."""

    queue: Queue


@dataclasses.dataclass(frozen=True)
class ReSSL(WithTeacher):
    """ReSSL: the first view, strongly augmented, is the student's, the second, weakly augmented, the teacher's."""

    projector: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    queue_size: int = 4096
    """Keys of past batches to relate to; a multiple of the batch size."""
    student_temperature: Scheduled = 0.1
    """Divides the student's cosines: a number or a schedule."""
    teacher_temperature: Scheduled = 0.04
    """Divides the teacher's cosines, lower than the student's: a number or a schedule."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_pair(batch)
        check_schedule("method.student_temperature", self.student_temperature, above=0)
        check_schedule("method.teacher_temperature", self.teacher_temperature, above=0)
        params, aux = self.start(rng, batch)
        images = batch["views"][0]
        width = self.network.width("projector", params, aux.stats, images)
        queue = empty_queue(self.queue_size, images.shape[0], width)
        return params, ReSSLAux(**vars(aux), queue=queue)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Algorithm 1; the queue is read before this step's keys go in."""
        strong, weak = batch["views"]
        student, stats = self.network.train(params, aux.stats, strong, rng)
        teacher, teacher_stats = self.network.train(aux.teacher, aux.teacher_stats, weak)
        key = stop_gradient(l2_normalise(teacher["projector"]))
        loss = re_ssl(
            student["projector"],
            key,
            aux.queue.flat,
            student_temperature=value_at(self.student_temperature, progress),
            teacher_temperature=value_at(self.teacher_temperature, progress),
            valid=aux.queue.valid,
        )
        aux = dataclasses.replace(aux, stats=stats, teacher_stats=teacher_stats, queue=enqueue(aux.queue, key))
        figures = pair_figures(student["encoder"], student["projector"], key)
        return loss, (aux, {**figures, "queue_fill": aux.queue.fill})
