"""SwAV (Caron et al. 2020, arXiv 2006.09882): each view predicts how another is assigned to prototypes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jax.nn import softmax

from ssljax.losses import embedding_std, entropy, l2_normalise, sinkhorn, swav
from ssljax.methods.base.checks import check_crops, check_share
from ssljax.methods.base.network import Network
from ssljax.methods.base.one_network import OneNetwork, State
from ssljax.models import MLP, Prototypes
from ssljax.queue import Queue, enqueue
from ssljax.schedules import check_schedule, reached, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, PyTree, Scheduled, UserError


@dataclasses.dataclass(frozen=True)
class SwAV(OneNetwork):
    """SwAV: two global crops are assigned to prototypes, and every crop predicts the other's assignment."""

    projector: Any = MLP(hidden=(2048,), out=128, batch_norm=True)
    """Maps embeddings to what is compared with the prototypes."""
    prototypes: Any = Prototypes(out=3000)
    """Scores a projection by its cosine with each prototype."""
    temperature: Scheduled = 0.1
    """Divides the scores: a number or a schedule."""
    epsilon: float = 0.05
    """Smoothness of the assignments."""
    iterations: int = 3
    """Iterations of Sinkhorn-Knopp."""
    queue_size: int | None = None
    """Past projections that are assigned along with a small batch, 3840 in the paper; a multiple of the batch size."""
    queue_from: float = 0.1
    """Share of training after which they are."""
    freeze_prototypes: float = 0.01
    """Share of training in which the prototypes stay as they are."""

    @property
    def network(self) -> Network:
        """Encoder, projector and prototypes."""
        return Network(encoder=self.encoder, projector=self.projector, prototypes=self.prototypes)

    @property
    def frozen_until(self) -> dict[str, float]:
        """See `FreezingMethod.frozen_until`: the prototypes."""
        return {"prototypes": self.freeze_prototypes}

    def check_settings(self, batch: Batch) -> None:
        check_crops(batch)
        check_share("method.freeze_prototypes", self.freeze_prototypes)
        check_share("method.queue_from", self.queue_from)
        check_schedule("method.temperature", self.temperature, above=0)
        if not self.epsilon > 0 or self.iterations < 1:
            raise UserError(
                f"method.epsilon={self.epsilon} must be above 0 and method.iterations={self.iterations} at least 1"
            )

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        if self.queue_size is None:
            return params, aux
        queue = self.empty_queue(self.queue_size, params, aux, batch)
        return params, State(aux.stats, queue=(queue, queue))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Algorithm 1: mean over the two assignments and over the views that predict each."""
        views, stats = self.network.train_crops(params, aux.stats, batch["views"], rng)
        temperature = value_at(self.temperature, progress)
        losses = []
        for i in range(2):
            assignments = self._assign(params, stats, views[i]["prototypes"], aux.queue and aux.queue[i], progress)
            others = [view["prototypes"] for j, view in enumerate(views) if j != i]
            losses += [swav(scores, assignments, temperature=temperature) for scores in others]
        keys = [stop_gradient(l2_normalise(view["projector"])) for view in views[:2]]
        queue = aux.queue and (enqueue(aux.queue[0], keys[0]), enqueue(aux.queue[1], keys[1]))
        figures = {
            "embedding_std": embedding_std(views[0]["encoder"]),
            "prediction_entropy": entropy(softmax(views[0]["prototypes"] / temperature)),
        }
        return sum(losses[1:], losses[0]) / len(losses), (State(stats, queue=queue), figures)

    def _assign(self, params: Params, stats: PyTree, scores: Array, queue: Queue | None, progress: Progress) -> Array:
        """f32[B, K], the batch's assignments, equally spread over the batch, or over it and the queue."""
        spread = functools.partial(sinkhorn, epsilon=self.epsilon, iterations=self.iterations)
        scores, prototypes = stop_gradient((scores, {"prototypes": params["prototypes"]}))
        if queue is None:
            return spread(scores)

        def with_queue() -> Array:
            past = self.network.evaluate(prototypes, stats, queue.flat)["prototypes"]
            # Beside each item the past ones of its place in the batch: no score leaves its device.
            past = past.reshape(*queue.keys.shape[:2], -1)
            together = jnp.concatenate([scores[:, None], past], axis=1)
            return spread(together.reshape(-1, together.shape[2])).reshape(together.shape)[:, 0]

        ready = reached(progress, self.queue_from) & (queue.fill == 1)
        return jax.lax.cond(ready, with_queue, lambda: spread(scores))
