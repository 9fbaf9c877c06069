"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an item attract, all others of the batch repel."""

import dataclasses
from typing import Any

from ssljax.losses import embedding_std, nt_xent
from ssljax.methods.network import Network
from ssljax.models import MLP, ResNet
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, pytree


@pytree
class SimCLRAux:
    """Batch statistics of the network."""

    stats: Any


@dataclasses.dataclass(frozen=True)
class SimCLR:
    """SimCLR: NT-Xent over the batch, no teacher, no queue."""

    encoder: Any = ResNet()
    """Maps images to embeddings."""
    projector: Any = MLP(hidden=(512,), out=128, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    temperature: Any = 0.2
    """Divides the cosines: a number or a schedule."""

    @property
    def network(self) -> Network:
        """The encoder and the projector."""
        return Network(self.encoder, self.projector)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.temperature", self.temperature, above=0)
        params, stats = self.network.init(rng, batch["views"][0])
        return params, SimCLRAux(stats=stats)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Array
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """Algorithm 1, with each view's batch statistics its own."""
        embedding, z1, stats = self.network.project(params, aux.stats, batch["views"][0])
        _, z2, stats = self.network.project(params, stats, batch["views"][1])
        loss = nt_xent(z1, z2, temperature=value_at(self.temperature, progress))
        return loss, (SimCLRAux(stats=stats), {"embedding_std": embedding_std(embedding)})

    def after_update(self, params: Params, aux: Aux, progress: Array) -> Aux:
        """Nothing follows the update."""
        return aux

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`."""
        return self.network.embed(params, aux.stats, batch["views"][0])
