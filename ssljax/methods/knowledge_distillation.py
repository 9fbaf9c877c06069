"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): a student learns a teacher's softened outputs."""

import dataclasses
from typing import Any

from jax.nn import softmax

from ssljax.losses import embedding_std, entropy, knowledge_distillation
from ssljax.methods.base.teachers import FrozenTeacher, WithTeacher
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnowledgeDistillation(WithTeacher):
    """Distils the logits of the teacher's head: classes, or DINO's and SwAV's prototypes, for which it needs no labels.

    For DINO's, whose logits are cosines, a temperature of .1 is what its student learnt with.
    """

    projector: Any = MLP(hidden=(), out=1000)
    """Maps embeddings to logits, as many as the teacher's."""
    teacher: FrozenTeacher  # pyright: ignore[reportGeneralTypeIssues] all fields are keywords
    """The network whose logits are learnt, and its file."""
    temperature: Scheduled = 4.0
    """Divides both logits: a number or a schedule."""

    def check_settings(self, batch: Batch) -> None:
        check_schedule("method.temperature", self.temperature, above=0)

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Section 2's soft targets, mean over the views."""
        students, teachers, aux = self.train_both(params, aux, batch, rng)
        temperature = value_at(self.temperature, progress)
        pairs = zip(students, teachers, strict=True)
        losses = [knowledge_distillation(s["projector"], t, temperature=temperature) for s, t in pairs]
        figures = {
            "embedding_std": embedding_std(students[0]["encoder"]),
            "teacher_entropy": entropy(softmax(teachers[0] / temperature)),
        }
        return sum(losses[1:], losses[0]) / len(losses), (aux, figures)
