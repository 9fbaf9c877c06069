"""What methods with a moving-average teacher have in common."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.methods.base.checks import check_predictor
from ssljax.methods.base.ema import ema
from ssljax.methods.base.network import Network, variables_of
from ssljax.models import MLP, ResNet
from ssljax.schedules import Cosine, check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Params, Progress, PyTree, Scheduled, pytree


@pytree
class TeacherAux:
    """The student's batch statistics, and the teacher with its own."""

    stats: Any
    teacher: Any
    teacher_stats: Any


@dataclasses.dataclass(frozen=True)
class WithTeacher:
    """A student (encoder, projector, and what a method adds) and a teacher that follows its encoder and projector."""

    encoder: Any = ResNet()
    """Maps images to embeddings."""
    projector: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    momentum: Scheduled = Cosine(0.99, 1.0)
    """The teacher keeps this share of itself at each step: a number or a schedule."""

    @property
    def network(self) -> Network:
        """The student's modules; the teacher has the first two."""
        return Network(encoder=self.encoder, projector=self.projector)

    def start(self, rng: Array, batch: Batch) -> tuple[Params, TeacherAux]:
        """The student's parameters, and a teacher that equals it."""
        check_schedule("method.momentum", self.momentum, least=0, most=1)
        params, stats = self.network.init(rng, batch["views"][0])
        teacher, teacher_stats = jax.tree.map(jnp.copy, (self.followed(params), self.followed(stats)))
        return params, TeacherAux(stats=stats, teacher=teacher, teacher_stats=teacher_stats)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """The teacher follows the student."""
        momentum = value_at(self.momentum, progress)
        return dataclasses.replace(aux, teacher=ema(aux.teacher, self.followed(params), momentum))

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the student's encoder."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def embed_teacher(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `TeacherMethod.embed_teacher`: the teacher's encoder."""
        return self.network.embed(aux.teacher, aux.teacher_stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`."""
        return {
            "student": variables_of(params, aux.stats),
            "teacher": variables_of(aux.teacher, aux.teacher_stats),
        }

    @staticmethod
    def followed(tree: PyTree) -> PyTree:
        """Of parameters or statistics by module, those of the modules that the teacher has."""
        return {name: tree[name] for name in ("encoder", "projector")}


@dataclasses.dataclass(frozen=True)
class WithPredictor(WithTeacher):
    """A student with a predictor beside a teacher without: each view is the student's and the teacher's."""

    predictor: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps the student's projection to the teacher's; `Identity()` leaves it out."""

    @property
    def network(self) -> Network:
        """Encoder, projector and predictor; the teacher has the first two."""
        return Network(encoder=self.encoder, projector=self.projector, predictor=self.predictor)

    def start(self, rng: Array, batch: Batch) -> tuple[Params, TeacherAux]:
        """As of any student with a teacher; raises UserError if the predictor does not suit the projector."""
        params, aux = super().start(rng, batch)
        check_predictor(self.network, params, aux.stats, batch["views"][0])
        return params, aux

    def train_both(
        self, params: Params, aux: TeacherAux, batch: Batch, rng: Array
    ) -> tuple[list[dict[str, Array]], list[Array], TeacherAux]:
        """Of each view the student's outputs and the teacher's projection f32[B, D], no gradient; and the state."""
        students, stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        teachers, teacher_stats = self.network.train_views(aux.teacher, aux.teacher_stats, batch["views"])
        keys = [jax.lax.stop_gradient(teacher["projector"]) for teacher in teachers]
        return students, keys, dataclasses.replace(aux, stats=stats, teacher_stats=teacher_stats)
