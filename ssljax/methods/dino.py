"""DINO (Caron et al. 2021, arXiv 2104.14294): self-distillation, kept from collapse by a center and a sharp teacher."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ssljax.losses import centered_softmax, dino, embedding_std, entropy, kl_to_uniform, sinkhorn, update_center
from ssljax.methods.base.checks import check_crops, check_share
from ssljax.methods.base.teachers import EMA, TeacherState, WithTeacher
from ssljax.models import DINOHead
from ssljax.schedules import Cosine, Linear, check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Metrics, Params, Progress, Scheduled, UserError, short


@dataclasses.dataclass(frozen=True)
class DINO(WithTeacher):
    """DINO: the student sees every crop, the teacher the first two, which are global."""

    projector: Any = DINOHead(out=65536)
    """Maps embeddings to logits over prototypes."""
    teacher: EMA = EMA(momentum=Cosine(0.996, 1.0))
    """A moving average of the student."""
    student_temperature: Scheduled = 0.1
    """Divides the student's logits: a number or a schedule."""
    teacher_temperature: Scheduled = Linear(0.04, 0.07, until=0.1)
    """Divides the teacher's logits, lower than the student's: a number or a schedule."""
    centering: Literal["center", "sinkhorn"] = "center"
    """center: a moving average is subtracted from the teacher's logits; sinkhorn: Sinkhorn-Knopp spreads them over the
    prototypes (DINOv2)."""
    center_momentum: float = 0.9
    """The center keeps this share of itself; 1 leaves it at zero: no centering, and collapse."""
    freeze_last: float = 0.01
    """Share of training in which the head's last layer stays as it is: one epoch in the paper."""

    def check_settings(self, batch: Batch) -> None:
        check_crops(batch)
        check_share("method.freeze_last", self.freeze_last)
        check_schedule("method.student_temperature", self.student_temperature, above=0)
        check_schedule("method.teacher_temperature", self.teacher_temperature, above=0)
        if not 0 <= self.center_momentum <= 1:
            raise UserError(f"method.center_momentum={self.center_momentum} must be at least 0 and at most 1")
        if not isinstance(self.teacher, EMA):
            raise UserError(f"method.teacher={short(self.teacher)} must be EMA: the student learns from itself")

    @property
    def frozen_until(self) -> dict[str, float]:
        """See `FreezingMethod.frozen_until`: the head's last layer."""
        return {"projector/prototypes": self.freeze_last}

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        if "prototypes" not in params["projector"]:
            raise UserError(f"method.projector={short(self.projector)} must be a DINOHead")
        if self.centering == "sinkhorn":
            return params, aux
        width = self.network.width("projector", params, aux.stats, batch["views"][0])
        return params, dataclasses.replace(aux, center=jnp.zeros(width))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1, with multi-crop: the old center for this batch, whose logits then move it."""
        sizes, stats = self.network.train_sizes(params, aux.stats, batch["views"], rng)
        with jax.named_scope("teacher"):
            shown, teacher_stats = self.network.train_sizes(aux.teacher.params, aux.teacher.stats, batch["views"][:2])
        student, (teacher,) = [logits.swapaxes(0, 1) for logits in sizes["projector"]], shown["projector"]
        targets = self.targets(teacher, aux.center, progress)
        loss = dino(student, targets.swapaxes(0, 1), student_temperature=value_at(self.student_temperature, progress))
        aux = dataclasses.replace(
            aux,
            stats=stats,
            teacher=TeacherState(aux.teacher.params, teacher_stats),
            center=self.moved(aux.center, teacher),
        )
        return loss, (aux, {"embedding_std": embedding_std(sizes["encoder"][0][:, 0]), **self.spread(targets)})

    def targets(self, logits: Array, center: Array | None, progress: Progress) -> Array:
        """f32[B, ..., K], the probabilities that the student learns, of the teacher's logits."""
        temperature = value_at(self.teacher_temperature, progress)
        if center is not None:
            return centered_softmax(logits, center, temperature=temperature)
        flat = logits.reshape(-1, logits.shape[-1])
        return sinkhorn(flat, epsilon=temperature, iterations=3).reshape(logits.shape)

    def moved(self, center: Array | None, logits: Array) -> Array | None:
        """The center after the teacher's logits f32[..., K]."""
        return None if center is None else update_center(center, logits, momentum=self.center_momentum)

    @staticmethod
    def spread(targets: Array) -> Metrics:
        """How the teacher spreads over the prototypes."""
        return {"teacher_entropy": entropy(targets), "teacher_kl_to_uniform": kl_to_uniform(targets)}
