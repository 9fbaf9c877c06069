"""SEED (Fang et al. 2021, arXiv 2101.04731): a small student's relations to past items follow a large teacher's."""

import dataclasses
from typing import Any

from ssljax.losses import l2_normalise, similarity_distillation
from ssljax.methods.base.one_network import pair_figures
from ssljax.methods.base.teachers import FrozenTeacher, WithTeacher
from ssljax.models import MLP
from ssljax.queue import enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True, kw_only=True)
class SEED(WithTeacher):
    """SEED: self-supervised distillation, for encoders too small to learn well without labels by themselves."""

    projector: Any = MLP(hidden=(2048,), out=128)
    """Maps embeddings to what is compared with the teacher's."""
    teacher: FrozenTeacher  # pyright: ignore[reportGeneralTypeIssues] all fields are keywords
    """The large network, and its file."""
    queue_size: int = 65536
    """The teacher's keys to relate to, this batch's among them; a multiple of the batch size."""
    student_temperature: Scheduled = 0.2
    """Divides the student's cosines: a number or a schedule."""
    teacher_temperature: Scheduled = 0.01
    """Divides the teacher's cosines: a number or a schedule."""

    def check_settings(self, batch: Batch) -> None:
        check_schedule("method.student_temperature", self.student_temperature, above=0)
        check_schedule("method.teacher_temperature", self.teacher_temperature, above=0)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        return params, dataclasses.replace(aux, queue=self.empty_queue(self.queue_size, params, aux, batch))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Equation 5, mean over the views: the teacher's keys go into the queue first, so each item finds its own."""
        students, teachers, aux = self.train_both(params, aux, batch, rng)
        queue, losses = aux.queue, []
        for student, teacher in zip(students, map(l2_normalise, teachers), strict=True):
            queue = enqueue(queue, teacher)
            loss = similarity_distillation(
                student["projector"],
                teacher,
                queue.flat,
                student_temperature=value_at(self.student_temperature, progress),
                teacher_temperature=value_at(self.teacher_temperature, progress),
                valid=queue.valid,
            )
            losses.append(loss)
        figures = pair_figures(students[0]["encoder"], students[0]["projector"], teachers[0])
        aux = dataclasses.replace(aux, queue=queue)
        return sum(losses[1:], losses[0]) / len(losses), (aux, {**figures, "queue_fill": queue.fill})
