"""ReSSL (Zheng et al. 2021, arXiv 2107.09282): a student's relations to past items follow a teacher's."""

import dataclasses
from typing import Any

from ssljax.losses import l2_normalise, re_ssl
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.teachers import WithTeacher
from ssljax.models import MLP
from ssljax.queue import enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


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

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.student_temperature", self.student_temperature, above=0)
        check_schedule("method.teacher_temperature", self.teacher_temperature, above=0)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        return params, dataclasses.replace(aux, queue=self.empty_queue(self.queue_size, params, aux, batch))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1; the queue is read before this step's keys go in."""
        strong, weak = batch["views"]
        student, stats = self.network.train(params, aux.stats, strong, rng)
        (key,), teacher = self.teacher.keys(self.network, aux.teacher, [weak])
        key = l2_normalise(key)
        loss = re_ssl(
            student["projector"],
            key,
            aux.queue.flat,
            student_temperature=value_at(self.student_temperature, progress),
            teacher_temperature=value_at(self.teacher_temperature, progress),
            valid=aux.queue.valid,
        )
        aux = dataclasses.replace(aux, stats=stats, teacher=teacher, queue=enqueue(aux.queue, key))
        figures = pair_figures(student["encoder"], student["projector"], key)
        return loss, (aux, {**figures, "queue_fill": aux.queue.fill})
