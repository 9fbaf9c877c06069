"""What methods that learn from a finished network have in common."""

import dataclasses
from typing import Any

from jax.lax import stop_gradient

from ssljax.methods.base.network import Network, variables_of
from ssljax.methods.base.with_teacher import TeacherAux
from ssljax.models import MLP, Pretrained, ResNet
from ssljax.types import Array, Aux, Batch, Params, Progress, PyTree, UserError, short


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithFrozenTeacher:
    """A student, and a teacher of any architecture that stays as its file has it, in evaluation mode.

    Both see each view, of which there may be any number.
    """

    encoder: Any = ResNet()
    """Maps images to embeddings."""
    projector: Any = MLP(hidden=(2048,), out=128)
    """Maps embeddings to what is compared with the teacher's."""
    teacher_encoder: Any
    """The teacher's encoder: `Pretrained(ResNet(depth=50), "runs/large/weights/teacher.safetensors")`."""
    teacher_projector: Any
    """The teacher's projector, of the same file: `Pretrained(MLP(hidden=(2048,)), ..., part="projector")`."""

    @property
    def network(self) -> Network:
        """The student's modules."""
        return Network(encoder=self.encoder, projector=self.projector)

    @property
    def teacher(self) -> Network:
        """The teacher's modules."""
        return Network(teacher_encoder=self.teacher_encoder, teacher_projector=self.teacher_projector)

    def start(self, rng: Array, batch: Batch) -> tuple[Params, TeacherAux]:
        """The student's parameters, and the teacher as its files have it; raises UserError if they do not fit."""
        for field in ("teacher_encoder", "teacher_projector"):
            if not isinstance(module := getattr(self, field), Pretrained):
                raise UserError(f"method.{field}={short(module)} is untrained: wrap it in Pretrained, with a file")
        images = batch["views"][0]
        params, stats = self.network.init(rng, images)
        teacher, teacher_stats = self.teacher.init(rng, images)
        width = self.network.width("projector", params, stats, images)
        wanted = self.teacher.width("teacher_projector", teacher, teacher_stats, images)
        if width != wanted:
            raise UserError(
                f"method.projector makes {width} numbers and method.teacher_projector {wanted}, which are "
                f"compared: set method.projector.out={wanted}"
            )
        return params, TeacherAux(stats=stats, teacher=teacher, teacher_stats=teacher_stats)

    def train_both(
        self, params: Params, aux: TeacherAux, batch: Batch, rng: Array
    ) -> tuple[list[dict[str, Array]], list[Array], TeacherAux]:
        """Of each view the student's outputs and the teacher's projection f32[B, D], no gradient; and the state."""
        students, stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        teachers = [self.teacher.evaluate(aux.teacher, aux.teacher_stats, view) for view in batch["views"]]
        keys = [stop_gradient(teacher["teacher_projector"]) for teacher in teachers]
        return students, keys, dataclasses.replace(aux, stats=stats)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """The teacher stays as it is."""
        return aux

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the student's encoder."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def embed_teacher(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `TeacherMethod.embed_teacher`: the teacher's encoder."""
        return self.teacher.embed(aux.teacher, aux.teacher_stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`."""
        return {"student": variables_of(params, aux.stats)}
