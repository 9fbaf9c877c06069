"""NNCLR (Dwibedi et al. 2021, arXiv 2104.14548): the positive is the nearest neighbour among past projections."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ssljax.losses import in_batch_info_nce, l2_normalise
from ssljax.methods.base.checks import check_predictor
from ssljax.methods.base.network import Network
from ssljax.methods.base.one_network import OneNetwork, State, pair_figures
from ssljax.models import MLP
from ssljax.queue import Queue, enqueue
from ssljax.schedules import check_schedule, value_at
from ssljax.sharding import on_own_share
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled


@dataclasses.dataclass(frozen=True)
class NNCLR(OneNetwork):
    """NNCLR: no teacher; positives are other items, so that no augmentation has to stand for what varies among them."""

    projector: Any = MLP(hidden=(2048, 2048), out=256, batch_norm=True, last_batch_norm=True)
    """Maps embeddings to what neighbours are sought by."""
    predictor: Any = MLP(hidden=(4096,), out=256, batch_norm=True)
    """Maps a view's projection to the other's neighbour."""
    queue_size: int = 65536
    """Past projections to seek in; a multiple of the batch size."""
    temperature: Scheduled = 0.1
    """Divides the cosines: a number or a schedule."""

    @property
    def network(self) -> Network:
        """Encoder, projector and predictor."""
        return Network(encoder=self.encoder, projector=self.projector, predictor=self.predictor)

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        check_schedule("method.temperature", self.temperature, above=0)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        params, aux = super().init(rng, batch)
        check_predictor(self.network, params, aux.stats, batch["views"][0])
        return params, State(aux.stats, queue=self.empty_queue(self.queue_size, params, aux, batch))

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """Equation 3 with the predictions as keys, mean of the two directions."""
        (view1, view2), stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        z1, z2 = (stop_gradient(l2_normalise(view["projector"])) for view in (view1, view2))
        temperature = value_at(self.temperature, progress)
        loss = in_batch_info_nce(nearest(aux.queue, z1), view2["predictor"], temperature=temperature)
        loss += in_batch_info_nce(nearest(aux.queue, z2), view1["predictor"], temperature=temperature)
        queue = enqueue(aux.queue, z1)
        figures = {**pair_figures(view1["encoder"], z1, z2), "queue_fill": queue.fill}
        return loss / 2, (State(stats, queue=queue), figures)


def nearest(queue: Queue, z: Array) -> Array:
    """f32[B, D], of each unit vector of z f32[B, D] the nearest in the queue; the vector itself if the queue is empty.

    Each device seeks in its own part of the queue; the nearest of its nearest is what travels.
    """

    def part(axes: tuple[str, ...], z: Array, columns: tuple[Array, Array]) -> tuple[Array, tuple[()]]:
        keys, valid = columns
        cosine = jnp.where(valid[None], jnp.matmul(z, keys.T, precision="highest"), -jnp.inf)
        best, found = jnp.max(cosine, axis=1), keys[jnp.argmax(cosine, axis=1)]
        if axes:
            device, count = jax.lax.axis_index(axes), jax.lax.psum(1, axes)
            winner = jax.lax.pmin(jnp.where(best == jax.lax.pmax(best, axes), device, count), axes)
            found = jax.lax.psum(jnp.where((winner == device)[:, None], found, 0), axes)
        return found, ()

    found, _ = on_own_share(part, z, (queue.flat, queue.valid))
    return jnp.where(queue.count > 0, found, z)
