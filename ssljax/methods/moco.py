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
from ssljax.methods.base.teachers import EMA, Teacher, WithTeacher
from ssljax.models import MLP, in_places, norm_groups
from ssljax.queue import Queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Metrics, Params, Progress, Scheduled, UserError, short


@dataclasses.dataclass(frozen=True)
class MoCo(WithTeacher):
    """MoCo v2; v1 with `projector=MLP(hidden=(), out=128)` and temperature .07."""

    projector: Any = MLP(hidden=(512,), out=128)
    """Maps embeddings to what the loss compares."""
    teacher: Teacher = EMA(momentum=0.99)
    """What makes the keys."""
    queue_size: int = 4096
    """Keys of past batches to compare with; a multiple of the batch size."""
    temperature: Scheduled = 0.2
    """Divides the cosines: a number or a schedule."""
    symmetric: bool = False
    """Each view is anchor once, and the loss is the mean of the two; twice the cost of a step."""
    shuffle: bool = False
    """Draw the teacher's BatchNorm groups (encoder.norm_groups > 1) at random at each step, so that they are not the
    student's: the paper's shuffled batch, but no image moves."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)
        batch_size, groups = len(batch["views"][0]), norm_groups(self.encoder)
        if self.symmetric and self.queue_size < 2 * batch_size:
            raise UserError(
                f"method.queue_size={self.queue_size} is shorter than the two batches of keys that a symmetric step "
                f"makes: try {2 * batch_size}"
            )
        if self.shuffle and groups is None:
            raise UserError(
                f"method.shuffle=True does nothing with method.encoder={short(self.encoder)}, which has no BatchNorm "
                f"over parts of the batch: set it to False"
            )
        if self.shuffle and groups == 1:
            raise UserError("method.shuffle does nothing without method.encoder.norm_groups above 1: try 8")

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        return params, dataclasses.replace(aux, queue=self.empty_queue(self.queue_size, params, aux, batch))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1: the queue is read before this step's keys go in."""
        view1, view2 = batch["views"]
        params, stats, teacher, queue = self.network.cast(params), aux.stats, aux.teacher, aux.queue
        losses, figures = [], []
        for i, (anchor_view, key_view) in enumerate([(view1, view2), (view2, view1)][: 1 + self.symmetric]):
            student_rng, shuffle_rng = jax.random.split(jax.random.fold_in(rng, i))
            student, stats = self.network.train(params, stats, anchor_view, student_rng)
            with self._shuffled(shuffle_rng, len(key_view)):
                (key,), teacher = self.teacher.keys(self.network, teacher, [key_view])
            key = l2_normalise(key)
            loss, cosines = self._contrast(student["projector"], key, aux.queue, progress)
            queue = enqueue(queue, key)
            losses.append(loss)
            figures.append({"embedding_std": embedding_std(student["encoder"]), **cosines})
        metrics = jax.tree.map(lambda *values: sum(values) / len(values), *figures)
        aux = dataclasses.replace(aux, stats=stats, teacher=teacher, queue=queue)
        return sum(losses[1:], losses[0]) / len(losses), (aux, {**metrics, "queue_fill": queue.fill})

    def _shuffled(self, rng: Array, batch_size: int) -> contextlib.AbstractContextManager:
        """Within it, BatchNorm groups are drawn at random, if `shuffle` says so."""
        return in_places(jax.random.permutation(rng, batch_size)) if self.shuffle else contextlib.nullcontext()

    def _contrast(self, anchor: Array, key: Array, queue: Queue, progress: Progress) -> tuple[Array, Metrics]:
        """InfoNCE of anchors against their keys and the queue, and the mean cosine to either."""
        temperature = value_at(self.temperature, progress)
        loss = info_nce(anchor, key, queue.flat, temperature=temperature, valid=queue.valid)
        unit = jax.lax.stop_gradient(l2_normalise(anchor))
        # The mean cosine over all pairs is the cosine of the sums: no B x K matrix. Empty places are zero vectors.
        negatives = jnp.maximum(queue.fill * queue.flat.shape[0], 1.0)
        negative = jnp.sum(jnp.mean(unit, axis=0) * jnp.sum(queue.flat, axis=0)) / negatives
        return loss, {"positive_cosine": jnp.mean(jnp.sum(unit * key, axis=1)), "negative_cosine": negative}
