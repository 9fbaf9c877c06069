"""What methods with one network have in common: the networks, their state, and the figures that are logged."""

import abc
import dataclasses
from typing import Any

from ssljax.losses import embedding_std, view_cosines
from ssljax.methods.base.checks import check_pair
from ssljax.methods.base.network import Network, variables_of
from ssljax.models import MLP, ResNet
from ssljax.queue import Queue, empty_queue
from ssljax.types import Array, Aux, Batch, LossAndState, Metrics, Params, Progress, PyTree, pytree


@pytree
class State:
    """What a method keeps beside its parameters; what a method has no use for is None."""

    stats: PyTree
    """batch statistics of the network that learns, by module"""
    teacher: Any = None
    """a `TeacherState`"""
    queue: Queue | tuple[Queue, Queue] | None = None
    """past keys, or those of each of two views"""
    memory: Queue | None = None
    """embeddings of past batches with their labels (XBM)"""
    center: Any = None
    """the center of the teacher's logits, f32[K]; one for [CLS] and one for patches in iBOT"""


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

    def check_settings(self, batch: Batch) -> None:
        """Raises UserError if a setting is wrong, or does not suit the batch."""
        check_pair(batch)

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        self.check_settings(batch)
        params, stats = self.network.init(rng, batch["views"][0])
        return params, State(stats)

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """Nothing follows the update."""
        return aux

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the encoder's output."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        return {"student": variables_of({name: params[name] for name in aux.stats}, aux.stats)}

    def empty_queue(self, size: int, params: Params, aux: Aux, batch: Batch) -> Queue:
        """A queue for projections of a batch; raises UserError unless the batch size divides `size`."""
        images = batch["views"][0]
        return empty_queue(size, len(images), self.network.width("projector", params, aux.stats, images))


@dataclasses.dataclass(frozen=True)
class Pairwise(OneNetwork, abc.ABC):
    """One network, trained by `compare` on the projections of two views; a method gives that function."""

    @abc.abstractmethod
    def compare(self, z1: Array, z2: Array, progress: Progress) -> Array:
        """The loss f32[] between two views' projections f32[B, D]."""

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """`compare` on both views, each with its own batch statistics."""
        (view1, view2), stats = self.network.train_views(params, aux.stats, batch["views"], rng)
        loss = self.compare(view1["projector"], view2["projector"], progress)
        return loss, (State(stats), pair_figures(view1["encoder"], view1["projector"], view2["projector"]))


def pair_figures(embedding: Array, z1: Array, z2: Array) -> Metrics:
    """What is logged of embeddings f32[B, F] and of two views' projections f32[B, D]."""
    positive, negative = view_cosines(z1, z2)
    return {"embedding_std": embedding_std(embedding), "positive_cosine": positive, "negative_cosine": negative}
