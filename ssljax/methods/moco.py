"""MoCo (He et al. 2020, arXiv 1911.05722; v2: Chen et al. 2020, arXiv 2003.04297).

A student's projection of one view finds, among a queue of past keys, the teacher's projection of the other view; the
teacher is a moving average of the student. v1 has a linear projector, `MLP(hidden=())`, v2 an MLP.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.fields import short
from ssljax.losses import embedding_std, info_nce, l2_normalise
from ssljax.methods.ema import ema
from ssljax.methods.network import Network
from ssljax.models import MLP, ResNet, norm_groups
from ssljax.queue import Queue, empty_queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, UserError, pytree


@pytree
class MoCoAux:
    """The student's batch statistics, the teacher with its own, and the queue of the teacher's keys."""

    stats: Any
    teacher: Any
    teacher_stats: Any
    queue: Queue


@dataclasses.dataclass(frozen=True)
class MoCo:
    """MoCo v2; v1 with `projector=MLP(hidden=(), out=128)` and temperature .07."""

    encoder: Any = ResNet()
    """Maps images to embeddings."""
    projector: Any = MLP(hidden=(512,), out=128)
    """Maps embeddings to what the loss compares."""
    queue_size: int = 4096
    """Keys of past batches to compare with; a multiple of the batch size."""
    temperature: Any = 0.2
    """Divides the cosines: a number or a schedule."""
    momentum: Any = 0.99
    """The teacher keeps this share of itself at each step: a number or a schedule."""
    symmetric: bool = False
    """Each view is anchor once, and the loss is the mean of the two; twice the cost of a step."""
    shuffle: bool = False
    """Shuffle the teacher's batch, so that its BatchNorm groups (encoder.norm_groups > 1) differ from the student's."""

    @property
    def network(self) -> Network:
        """The encoder and the projector, the same for student and teacher."""
        return Network(self.encoder, self.projector)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        images = batch["views"][0]
        check_schedule("method.temperature", self.temperature, above=0)
        check_schedule("method.momentum", self.momentum, least=0, most=1)
        if self.symmetric and self.queue_size < 2 * images.shape[0]:
            raise UserError(
                f"method.queue_size={self.queue_size} is shorter than the two batches of keys that a symmetric step "
                f"makes: try {2 * images.shape[0]}"
            )
        params, stats = self.network.init(rng, images)
        if self.shuffle and norm_groups(self.encoder) is None:
            raise UserError(
                f"method.shuffle=True does nothing with method.encoder={short(self.encoder)}, which has no BatchNorm "
                f"over parts of the batch: set it to False"
            )
        if self.shuffle and norm_groups(self.encoder) == 1:
            raise UserError("method.shuffle does nothing without method.encoder.norm_groups above 1: try 8")
        queue = empty_queue(self.queue_size, images.shape[0], self.projector.out)
        teacher, teacher_stats = jax.tree.map(jnp.copy, (params, stats))
        return params, MoCoAux(stats=stats, teacher=teacher, teacher_stats=teacher_stats, queue=queue)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Array
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Algorithm 1: the queue is read before this step's keys go in."""
        view1, view2 = batch["views"]
        directions = [(view1, view2), (view2, view1)] if self.symmetric else [(view1, view2)]
        stats, teacher_stats, queue = aux.stats, aux.teacher_stats, aux.queue
        losses, figures = [], []
        for i, (anchor_view, key_view) in enumerate(directions):
            embedding, anchor, stats = self.network.project(params, stats, anchor_view)
            key, teacher_stats = self._key(aux.teacher, teacher_stats, key_view, jax.random.fold_in(rng, i))
            loss, similarity = self._contrast(anchor, key, aux.queue, progress)
            queue = enqueue(queue, key)
            losses.append(loss)
            figures.append({"embedding_std": embedding_std(embedding), **similarity})
        metrics = jax.tree.map(lambda *values: sum(values) / len(values), *figures)
        aux = dataclasses.replace(aux, stats=stats, teacher_stats=teacher_stats, queue=queue)
        return sum(losses) / len(losses), (aux, {**metrics, "queue_fill": queue.fill})

    def after_update(self, params: Params, aux: Aux, progress: Array) -> Aux:
        """The teacher follows the student (eq. 2)."""
        return dataclasses.replace(aux, teacher=ema(aux.teacher, params, value_at(self.momentum, progress)))

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the student's encoder."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def _key(self, teacher: Params, stats: Any, images: Array, rng: Array) -> tuple[Array, Any]:
        """The teacher's normalised projections, without gradient, and its new statistics."""
        if not self.shuffle:
            _, projection, stats = self.network.project(teacher, stats, images)
        else:
            order = jax.random.permutation(rng, images.shape[0])
            _, shuffled, stats = self.network.project(teacher, stats, images[order])
            projection = shuffled[jnp.argsort(order)]
        return jax.lax.stop_gradient(l2_normalise(projection)), stats

    def _contrast(self, anchor: Array, key: Array, queue: Queue, progress: Array) -> tuple[Array, Metrics]:
        """InfoNCE of anchors against their keys and the queue, and the mean cosine to either."""
        temperature = value_at(self.temperature, progress)
        loss = info_nce(anchor, key, queue.flat, temperature=temperature, valid=queue.valid)
        unit = jax.lax.stop_gradient(l2_normalise(anchor))
        # The mean cosine over all pairs is the cosine of the sums: no B x K matrix. Empty places are zero vectors.
        negatives = jnp.maximum(queue.fill * queue.flat.shape[0], 1.0)
        negative = jnp.sum(jnp.mean(unit, axis=0) * jnp.sum(queue.flat, axis=0)) / negatives
        return loss, {"positive_cosine": jnp.mean(jnp.sum(unit * key, axis=1)), "negative_cosine": negative}
