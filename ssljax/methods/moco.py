"""MoCo (He et al. 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297).

A student's projection of one view finds, among a queue of past keys, the teacher's projection of the other view; the
teacher is a moving average of the student. v1 has a linear projector, `MLP(hidden=())`, v2 an MLP.
"""

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.losses import embedding_std, info_nce, l2_normalise
from ssljax.methods.base.checks import check_pair
from ssljax.methods.base.with_teacher import TeacherAux, WithTeacher
from ssljax.models import MLP, in_places, norm_groups
from ssljax.queue import Queue, empty_queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, Scheduled, UserError, pytree, short


@pytree
class MoCoAux(TeacherAux):
    """And the queue of the teacher's keys."""

    queue: Queue


@dataclasses.dataclass(frozen=True)
class MoCo(WithTeacher):
    """MoCo v2; v1 with `projector=MLP(hidden=(), out=128)` and temperature .07."""

    projector: Any = MLP(hidden=(512,), out=128)
    """Maps embeddings to what the loss compares."""
    momentum: Scheduled = 0.99
    """The teacher keeps this share of itself at each step: a number or a schedule."""
    queue_size: int = 4096
    """Keys of past batches to compare with; a multiple of the batch size."""
    temperature: Scheduled = 0.2
    """Divides the cosines: a number or a schedule."""
    symmetric: bool = False
    """Each view is anchor once, and the loss is the mean of the two; twice the cost of a step."""
    shuffle: bool = False
    """Draw the teacher's BatchNorm groups (encoder.norm_groups > 1) at random at each step, so that they are not the
    student's: the paper's shuffled batch, but no image moves."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_pair(batch)
        images = batch["views"][0]
        check_schedule("method.temperature", self.temperature, above=0)
        if self.symmetric and self.queue_size < 2 * images.shape[0]:
            raise UserError(
                f"method.queue_size={self.queue_size} is shorter than the two batches of keys that a symmetric step "
                f"makes: try {2 * images.shape[0]}"
            )
        params, aux = self.start(rng, batch)
        if self.shuffle and norm_groups(self.encoder) is None:
            raise UserError(
                f"method.shuffle=True does nothing with method.encoder={short(self.encoder)}, which has no BatchNorm "
                f"over parts of the batch: set it to False"
            )
        if self.shuffle and norm_groups(self.encoder) == 1:
            raise UserError("method.shuffle does nothing without method.encoder.norm_groups above 1: try 8")
        width = self.network.width("projector", params, aux.stats, images)
        return params, MoCoAux(**vars(aux), queue=empty_queue(self.queue_size, images.shape[0], width))

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Algorithm 1: the queue is read before this step's keys go in."""
        view1, view2 = batch["views"]
        directions = [(view1, view2), (view2, view1)] if self.symmetric else [(view1, view2)]
        stats, teacher_stats, queue = aux.stats, aux.teacher_stats, aux.queue
        losses, figures = [], []
        for i, (anchor_view, key_view) in enumerate(directions):
            student_rng, shuffle_rng = jax.random.split(jax.random.fold_in(rng, i))
            student, stats = self.network.train(params, stats, anchor_view, student_rng)
            key, teacher_stats = self._key(aux.teacher, teacher_stats, key_view, shuffle_rng)
            loss, similarity = self._contrast(student["projector"], key, aux.queue, progress)
            queue = enqueue(queue, key)
            losses.append(loss)
            figures.append({"embedding_std": embedding_std(student["encoder"]), **similarity})
        metrics = jax.tree.map(lambda *values: sum(values) / len(values), *figures)
        aux = dataclasses.replace(aux, stats=stats, teacher_stats=teacher_stats, queue=queue)
        return sum(losses) / len(losses), (aux, {**metrics, "queue_fill": queue.fill})

    def _key(self, teacher: Params, stats: Any, images: Array, rng: Array) -> tuple[Array, Any]:
        """The teacher's normalised projections, without gradient, and its new statistics."""
        places = in_places(jax.random.permutation(rng, images.shape[0])) if self.shuffle else contextlib.nullcontext()
        with places:
            outputs, stats = self.network.train(teacher, stats, images)
        return jax.lax.stop_gradient(l2_normalise(outputs["projector"])), stats

    def _contrast(self, anchor: Array, key: Array, queue: Queue, progress: Progress) -> tuple[Array, Metrics]:
        """InfoNCE of anchors against their keys and the queue, and the mean cosine to either."""
        temperature = value_at(self.temperature, progress)
        loss = info_nce(anchor, key, queue.flat, temperature=temperature, valid=queue.valid)
        unit = jax.lax.stop_gradient(l2_normalise(anchor))
        # The mean cosine over all pairs is the cosine of the sums: no B x K matrix. Empty places are zero vectors.
        negatives = jnp.maximum(queue.fill * queue.flat.shape[0], 1.0)
        negative = jnp.sum(jnp.mean(unit, axis=0) * jnp.sum(queue.flat, axis=0)) / negatives
        return loss, {"positive_cosine": jnp.mean(jnp.sum(unit * key, axis=1)), "negative_cosine": negative}
