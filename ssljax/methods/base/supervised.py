"""What methods that learn from labels have in common: losses of pairs, with a memory, and losses against classes."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.losses import References, cross_batch, embedding_std, l2_normalise, label_cosines
from ssljax.methods.base.checks import check_alike, check_labelled_views, check_share
from ssljax.methods.base.network import item_by_item
from ssljax.methods.base.one_network import OneNetwork
from ssljax.models import Identity
from ssljax.queue import Queue, empty_memory, enqueue
from ssljax.schedules import check_schedule, reached, value_at
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, Scheduled, UserError, pytree


@pytree
class SupervisedAux:
    """Batch statistics, and the embeddings and labels of past batches, if they are remembered."""

    stats: Any
    memory: Queue | None


@dataclasses.dataclass(frozen=True)
class Supervised(OneNetwork, abc.ABC):
    """One network, trained by `compare` on the labelled projections of any number of views.

    A label of -1 is unknown: the item neither attracts nor repels.
    """

    projector: Any = Identity()
    """Maps embeddings to what the loss compares: nothing, as embeddings are what is searched."""
    labelled_views: int | None = None
    """How many of the views, from the first, have the item's label; None: all. Of mined triplets it is 1."""

    @abc.abstractmethod
    def compare(
        self, params: Params, aux: SupervisedAux, z: Array, labels: Array, progress: Progress
    ) -> tuple[Array, SupervisedAux, Metrics]:
        """The loss f32[] of projections f32[N, D] with labels i32[N], the new state, and figures to log."""

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`."""
        check_alike(self.labelled_views, batches)
        labels = items.label
        if labels is None:
            raise self._unlabelled()
        known = np.unique(labels[labels >= 0])
        if len(known) < 2:
            raise UserError(
                f"{type(self).__name__} tells classes apart, and the {len(labels)} photos of the train split have "
                f"{len(known)}: {np.sum(labels < 0)} have no label; name another column in data.label"
            )

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if "label" not in batch:
            raise self._unlabelled()
        check_labelled_views(self.labelled_views, batch)
        params, stats = self.network.init(rng, batch["views"][0])
        return params, SupervisedAux(stats, None)

    def loss(
        self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """`compare` on the labelled views, which are normalised as one batch."""
        images = batch["views"][: self.labelled_views]
        views, stats = self.network.train_crops(params, aux.stats, images, rng)
        z, labels = self.rows([view["projector"] for view in views], batch["label"])
        loss, aux, figures = self.compare(params, dataclasses.replace(aux, stats=stats), z, labels, progress)
        positive, negative = label_cosines(z, labels)
        spread = {"embedding_std": embedding_std(views[0]["encoder"])}
        return loss, (aux, {**spread, "positive_cosine": positive, "negative_cosine": negative, **figures})

    def rows(self, projections: Sequence[Array], labels: Array) -> tuple[Array, Array]:
        """All views' projections, f32[B, D] each, as f32[N, D], and their labels i32[N], item by item."""
        return item_by_item(projections), jnp.repeat(labels, len(projections))

    def _unlabelled(self) -> UserError:
        name = type(self).__name__
        return UserError(f"{name} learns from labels, and the data has none: name the label's column in data.label")


@dataclasses.dataclass(frozen=True)
class WithMemory(Supervised):
    """A loss of pairs, within the batch and, on request, with a cross-batch memory (XBM, Wang et al. 2020).

    The memory is one for all devices and split over them; the loss against it is added to the batch's own, as in the
    authors' code.
    """

    memory_size: int = 0
    """Past embeddings to compare with as well: a multiple of the embeddings that a step makes; 0 for no memory."""
    memory_from: float = 0.05
    """Share of training after which they are, when embeddings change slowly enough; they are kept from the start."""
    memory_weight: float = 1.0
    """Weight of the loss against the memory, beside the batch's own."""

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`."""
        super().check(items, batches, views)
        sizes = np.unique(items.label[items.label >= 0], return_counts=True)[1]
        if sizes.max() == 1 == (self.labelled_views or views):
            raise UserError(
                f"{type(self).__name__} compares photos of one class, and each of the {len(sizes)} classes of the "
                "train split has a single one: name another column in data.label"
            )

    @abc.abstractmethod
    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """The loss f32[] of embeddings f32[N, D] with labels i32[N] against each other, or against references."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_share("method.memory_from", self.memory_from)
        if self.memory_weight < 0:
            raise UserError(f"method.memory_weight={self.memory_weight} must be at least 0")
        params, aux = super().init(rng, batch)
        if not self.memory_size:
            return params, aux
        images = batch["views"][: self.labelled_views]
        width = self.network.width("projector", params, aux.stats, images[0])
        memory = empty_memory(self.memory_size, sum(map(len, images)), width)
        return params, dataclasses.replace(aux, memory=memory)

    def compare(
        self, params: Params, aux: SupervisedAux, z: Array, labels: Array, progress: Progress
    ) -> tuple[Array, SupervisedAux, Metrics]:
        """Algorithm 1 of XBM: the batch is remembered first, and no embedding is paired with itself."""
        loss = self.pairs(z, labels, progress=progress)
        if aux.memory is None:
            return loss, aux, self.figures(z, labels, progress)
        memory = enqueue(aux.memory, l2_normalise(z), labels)
        across = cross_batch(
            self.pairs,
            z,
            labels,
            memory.flat,
            memory.labels.reshape(-1),
            memory.valid,
            memory.newest,
            progress=progress,
        )
        loss += jnp.where(reached(progress, self.memory_from), self.memory_weight * across, 0)
        figures = {"memory_loss": across, "memory_fill": memory.fill, **self.figures(z, labels, progress)}
        return loss, dataclasses.replace(aux, memory=memory), figures

    def figures(self, z: Array, labels: Array, progress: Progress) -> Metrics:
        """What else is logged of the batch."""
        return {}


@dataclasses.dataclass(frozen=True)
class AgainstClasses(Supervised):
    """A loss against a learnt vector of each class, which stands for the class's items of all batches.

    The vectors are in the parameters, and split over the devices of `shards` along the classes, if their number is a
    multiple of it: millions of classes are no more than memory for an eighth of them on each of eight.
    """

    classes: int = 0
    """How many classes the labels have: the data's labels must be below it."""

    @abc.abstractmethod
    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """The loss f32[] of embeddings f32[N, D] with labels i32[N] and the classes' vectors."""

    def shape(self, features: int) -> tuple[int, ...]:
        """Of the classes' vectors."""
        return self.classes, features

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`."""
        super().check(items, batches, views)
        largest = int(np.max(items.label))
        if largest >= self.classes:
            needed = max(largest + 1, len(items.label_names))
            raise UserError(
                f"method.classes={self.classes} is too small for labels from 0 to {needed - 1}: set it to {needed}"
            )

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if self.classes < 2:
            raise UserError(f"method.classes={self.classes} must be the number of the data's classes, at least 2")
        network_rng, vectors_rng = jax.random.split(rng)
        params, aux = super().init(network_rng, batch)
        features = self.network.width("projector", params, aux.stats, batch["views"][0])
        vectors = jax.random.normal(vectors_rng, self.shape(features)) / math.sqrt(features)
        return {**params, "class_vectors": vectors}, aux

    def compare(
        self, params: Params, aux: SupervisedAux, z: Array, labels: Array, progress: Progress
    ) -> tuple[Array, SupervisedAux, Metrics]:
        """`against`, in which no two items are compared."""
        return self.against(params["class_vectors"], z, labels, progress), aux, {}


@dataclasses.dataclass(frozen=True)
class WithMargin(AgainstClasses):
    """A softmax over scaled cosines with the classes' vectors, and a margin in the item's own class."""

    largest_margin: ClassVar[float] = math.pi / 2

    scale: float = 64.0
    """Factor on the cosines; 30 or so for few classes."""
    margin: Scheduled = 0.5
    """Radians, or a cosine for CosFace: a number, or a schedule, such as Linear(0.0, 0.5, until=0.2) for a ramp."""
    class_sizes: tuple[int, ...] = ()
    """Photos of each class, for margins by size (Ha et al. 2020, equation 1): the smallest has `margin`."""
    size_power: float = 0.25
    """Margins are a / size^this + b."""
    size_floor: float = 0.1
    """The margin of the largest class, as a share of the smallest's."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.margin", self.margin, least=0, most=self.largest_margin)
        if self.scale <= 0:
            raise UserError(f"method.scale={self.scale} must be above 0, such as 64")
        if self.class_sizes and len(self.class_sizes) != self.classes:
            raise UserError(
                f"method.class_sizes has {len(self.class_sizes)} numbers and there are {self.classes} classes: give "
                "one for each, or none"
            )
        if min(self.class_sizes, default=0) < 0 or self.size_power <= 0 or not 0 <= self.size_floor <= 1:
            raise UserError(
                f"method.class_sizes must be at least 0, method.size_power={self.size_power} above 0, and "
                f"method.size_floor={self.size_floor} a share, in [0, 1]"
            )
        return super().init(rng, batch)

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`."""
        super().check(items, batches, views)
        if len(self.class_sizes) != self.classes:
            return  # none, or refused by `init`
        sizes = np.bincount(items.label[items.label >= 0], minlength=self.classes)
        wrong = np.flatnonzero((sizes > 0) & (np.array(self.class_sizes) == 0))
        if len(wrong):
            raise UserError(
                f"method.class_sizes is 0 for {len(wrong)} classes that have photos, such as {wrong[0]} with "
                f"{sizes[wrong[0]]}: give the photos of each class"
            )

    def margins(self, progress: Progress) -> Array:
        """f32[], or f32[C] by the sizes of the classes."""
        margin = value_at(self.margin, progress)
        if len(set(self.class_sizes)) < 2:
            return margin
        # a and b are such that the smallest class has 1 and the largest `size_floor`.
        rarity = np.maximum(np.asarray(self.class_sizes, np.float32), 1) ** -self.size_power
        share = (rarity - rarity.min()) / (rarity.max() - rarity.min())
        return margin * jnp.asarray(self.size_floor + (1 - self.size_floor) * share)
