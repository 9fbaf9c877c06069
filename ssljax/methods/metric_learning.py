"""MetricLearning: one network, trained by a loss over labelled embeddings, with a memory on request."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.losses import cross_batch, embedding_std, l2_normalise, label_cosines
from ssljax.methods.base.checks import check_alike, check_labelled_views, check_share
from ssljax.methods.base.network import item_by_item
from ssljax.methods.base.one_network import OneNetwork
from ssljax.methods.metric_losses import ClassLoss, Criterion, PairLoss, Triplet
from ssljax.models import Identity
from ssljax.queue import Queue, empty_memory, enqueue
from ssljax.schedules import reached
from ssljax.types import Array, Aux, Batch, LossAndState, Metrics, Params, Progress, UserError, short


@dataclasses.dataclass(frozen=True)
class Memory:
    """A cross-batch memory (XBM, Wang et al. 2020): past embeddings that a `PairLoss` compares a batch with as well.

    It is one for all devices and split over them; the loss against it is added to the batch's own, as in the authors'
    code.
    """

    size: int = 0
    """Past embeddings: a multiple of the embeddings that a step makes; 0 for no memory."""
    start: float = 0.05
    """Share of training after which they count, when embeddings change slowly enough; they are kept from step 0 on."""
    weight: float = 1.0
    """Weight of the loss against the memory, beside the batch's own."""

    def check(self) -> None:
        """Raises UserError if a setting is out of its range."""
        check_share("method.memory.start", self.start)
        if self.weight < 0:
            raise UserError(f"method.memory.weight={self.weight} must be at least 0")


@dataclasses.dataclass(frozen=True)
class MetricLearning(OneNetwork):
    """`MetricLearning(encoder=ResNet(depth=50), criterion=Triplet(margin=0.2), memory=Memory(size=8192))`.

    Views of which there may be any number, all with the item's label or the first few of them.
    """

    projector: Any = Identity()
    """Maps embeddings to what the loss compares: nothing, as embeddings are what is searched."""
    criterion: Criterion = Triplet()
    """The loss: Triplet, Contrastive, SupCon, MultiSimilarity, Lifted or NPairs between items, and ArcFace, CosFace,
    SubCenterArcFace, ProxyNCA or ProxyAnchor against classes."""
    memory: Memory = Memory()
    """Past embeddings to compare with as well."""
    labelled_views: int | None = None
    """How many of the views, from the first, have the item's label; None: all. Of mined triplets it is 1."""
    embedding: Literal["encoder", "projector"] = "encoder"
    """What is searched: the encoder's output, or the projection, such as that of a frozen encoder."""
    encoder_from: float = 0.0
    """Share of training from which the encoder learns; until then only the projector and the class vectors do."""

    @property
    def frozen_until(self) -> dict[str, float]:
        """See `FreezingMethod.frozen_until`: the encoder."""
        return {"encoder": self.encoder_from} if self.encoder_from else {}

    def check(self, items: Any, batches: Any, views: int) -> None:
        check_alike(self.labelled_views, batches)
        if items.label is None:
            raise self._unlabelled()
        known, sizes = np.unique(items.label[items.label >= 0], return_counts=True)
        name = type(self.criterion).__name__
        if len(known) < 2:
            raise UserError(
                f"{name} tells classes apart, and the {len(items.label)} photos of the train split have "
                f"{len(known)}: {np.sum(items.label < 0)} have no label; name another column in data.label"
            )
        if isinstance(self.criterion, ClassLoss):
            self.criterion.check_items(items)
        elif (
            isinstance(self.criterion, PairLoss)
            and self.criterion.remembers
            and sizes.max() == 1 == (self.labelled_views or views)
        ):
            raise UserError(
                f"{name} compares photos of one class, and each of the {len(sizes)} classes of the train split has a "
                "single one: name another column in data.label"
            )

    def check_settings(self, batch: Batch) -> None:
        if not isinstance(self.criterion, Criterion):
            raise UserError(f"method.criterion={short(self.criterion)} must be a loss, such as Triplet(margin=0.2)")
        if "label" not in batch:
            raise self._unlabelled()
        check_labelled_views(self.labelled_views, batch)
        check_share("method.encoder_from", self.encoder_from)
        self.criterion.check()
        self.memory.check()
        if self.memory.size and not getattr(self.criterion, "remembers", False):
            name = type(self.criterion).__name__
            raise UserError(f"method.memory.size={self.memory.size} has no use with {name}: set it to 0")

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`: with the classes' vectors among the parameters, if there are any."""
        criterion = self.criterion
        network_rng, vectors_rng = jax.random.split(rng) if isinstance(criterion, ClassLoss) else (rng, rng)
        params, aux = super().init(network_rng, batch)
        if self.encoder_from and not jax.tree.leaves(params["encoder"]):
            raise UserError(
                f"method.encoder_from={self.encoder_from} is when the encoder begins to learn, and this one has no "
                "parameters that learn: set it to 0"
            )
        if not isinstance(criterion, ClassLoss):
            return params, dataclasses.replace(aux, memory=self._empty_memory(params, aux, batch))
        features = self.network.width("projector", params, aux.stats, batch["views"][0])
        vectors = jax.random.normal(vectors_rng, criterion.shape(features)) / math.sqrt(features)
        return {**params, "class_vectors": vectors}, aux

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """The criterion on the labelled views, which are normalised as one batch."""
        images = batch["views"][: self.labelled_views]
        views, stats = self.network.train_crops(params, aux.stats, images, rng)
        z, labels = self.rows([view["projector"] for view in views], batch["label"])
        loss, memory, figures = self.compare(params, aux.memory, z, labels, progress)
        positive, negative = label_cosines(z, labels)
        spread = {"embedding_std": embedding_std(views[0]["encoder"])}
        aux = dataclasses.replace(aux, stats=stats, memory=memory)
        return loss, (aux, {**spread, "positive_cosine": positive, "negative_cosine": negative, **figures})

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the output of the module that `embedding` names."""
        return self.network.evaluate(params, aux.stats, batch["views"][0])[self.embedding]

    def rows(self, projections: Sequence[Array], labels: Array) -> tuple[Array, Array]:
        """All views' projections, f32[B, D] each, as f32[N, D], and their labels i32[N]."""
        if getattr(self.criterion, "item_by_item", True):
            return item_by_item(projections), jnp.repeat(labels, len(projections))
        return jnp.concatenate(projections), jnp.tile(labels, len(projections))

    def compare(
        self, params: Params, memory: Queue | None, z: Array, labels: Array, progress: Progress
    ) -> tuple[Array, Queue | None, Metrics]:
        """The loss f32[] of projections f32[N, D] with labels i32[N], the new memory, and figures to log.

        With a memory it is algorithm 1 of XBM: the batch is remembered first, and no embedding is paired with itself.
        """
        if isinstance(self.criterion, ClassLoss):
            return self.criterion(z, params["class_vectors"], labels, progress=progress), None, {}
        assert isinstance(self.criterion, PairLoss)
        loss = self.criterion(z, labels, progress=progress)
        figures = self.criterion.figures(z, labels, progress)
        if memory is None:
            return loss, None, figures
        memory = enqueue(memory, l2_normalise(z), labels)
        assert memory.labels is not None
        past = memory.flat, memory.labels.reshape(-1), memory.valid, memory.newest
        across = cross_batch(self.criterion, z, labels, *past, progress=progress)
        loss += jnp.where(reached(progress, self.memory.start), self.memory.weight * across, 0)
        return loss, memory, {"memory_loss": across, "memory_fill": memory.fill, **figures}

    def _empty_memory(self, params: Params, aux: Aux, batch: Batch) -> Queue | None:
        if not self.memory.size:
            return None
        images = batch["views"][: self.labelled_views]
        width = self.network.width("projector", params, aux.stats, images[0])
        return empty_memory(self.memory.size, sum(map(len, images)), width)

    def _unlabelled(self) -> UserError:
        name = type(self.criterion).__name__
        return UserError(f"{name} learns from labels, and the data has none: name the label's column in data.label")
