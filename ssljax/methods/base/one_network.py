"""What methods with one network and no teacher have in common."""

import abc
import dataclasses
from typing import Any

from ssljax.losses import embedding_std, view_cosines
from ssljax.methods.base.checks import check_pair
from ssljax.methods.base.network import Network, variables_of
from ssljax.models import MLP, ResNet
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, PyTree, pytree


@pytree
class NetworkAux:
    """Batch statistics of the network."""

    stats: Any


@dataclasses.dataclass(frozen=True)
class OneNetwork:
    """A network of encoder and projector, and of what a method adds, without a teacher."""

    encoder: Any = ResNet()
    """Maps images to embeddings."""
    projector: Any = MLP(hidden=(2048,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""

    @property
    def network(self) -> Network:
        """The modules in their order."""
        return Network(encoder=self.encoder, projector=self.projector)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_pair(batch)
        params, stats = self.network.init(rng, batch["views"][0])
        return params, NetworkAux(stats)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """Nothing follows the update."""
        return aux

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the encoder's output."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`."""
        return {"student": variables_of({name: params[name] for name in aux.stats}, aux.stats)}


@dataclasses.dataclass(frozen=True)
class Pairwise(OneNetwork, abc.ABC):
    """One network, trained by `compare` on the projections of two views; a method gives that function."""

    @abc.abstractmethod
    def compare(self, z1: Array, z2: Array, batch: Batch, progress: Progress) -> Array:
        """The loss f32[] between two views' projections f32[B, D]."""

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """`compare` on both views, each with its own batch statistics."""
        (view1, view2), stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        loss = self.compare(view1["projector"], view2["projector"], batch, progress)
        return loss, (NetworkAux(stats), pair_figures(view1["encoder"], view1["projector"], view2["projector"]))


def pair_figures(embedding: Array, z1: Array, z2: Array) -> Metrics:
    """What is logged of embeddings f32[B, F] and of two views' projections f32[B, D]."""
    positive, negative = view_cosines(z1, z2)
    return {"embedding_std": embedding_std(embedding), "positive_cosine": positive, "negative_cosine": negative}
