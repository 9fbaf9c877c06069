"""Losses of metric learning, as values for `MetricLearning(criterion=...)`: each calls its function of `ssljax.losses`.

A label of -1 is unknown: the item neither attracts nor repels. Distances and cosines are those of unit vectors,
unless a loss says otherwise.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ssljax import losses
from ssljax.losses import References
from ssljax.losses.metric import Mining
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Metrics, Progress, Scheduled, UserError


class Criterion:
    """What `MetricLearning` minimises: a `PairLoss` or a `ClassLoss`."""

    def check(self) -> None:
        """Raises UserError if a setting is out of its range."""


@dataclasses.dataclass(frozen=True)
class PairLoss(Criterion, abc.ABC):
    """A loss of labelled embeddings against each other, or against references such as a memory."""

    remembers: ClassVar[bool] = True
    """Whether there may be references."""
    item_by_item: ClassVar[bool] = True
    """Whether an item's views come one after the other; else they come view by view."""

    @abc.abstractmethod
    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """The loss f32[] of embeddings f32[N, D] with labels i32[N]."""

    def figures(self, z: Array, labels: Array, progress: Progress) -> Metrics:
        """What else is logged of the batch."""
        return {}


@dataclasses.dataclass(frozen=True)
class Triplet(PairLoss):
    """Triplets mined in the batch (FaceNet, Schroff et al. 2015, section 3.1), by distances that are not squared."""

    mining: Mining = "batch_hard"
    """Which triplets count: all, easy, semi_hard, hard, or of each anchor the hardest (Hermans et al. 2017)."""
    margin: Scheduled = 0.2
    """Distance by which negatives must be further away: a number or a schedule."""
    soft: bool = False
    """log(1 + exp(x)) instead of max(0, x): triplets beyond the margin go on to pull a little."""

    def check(self) -> None:
        check_schedule("method.criterion.margin", self.margin, least=0, most=2)

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        margin = value_at(self.margin, progress)
        return losses.triplet(z, labels, margin=margin, mining=self.mining, soft=self.soft, references=references)

    def figures(self, z: Array, labels: Array, progress: Progress) -> Metrics:
        """The share of triplets that violate the margin."""
        return {"active_triplets": losses.active_triplets(z, labels, margin=value_at(self.margin, progress))}


@dataclasses.dataclass(frozen=True)
class Contrastive(PairLoss):
    """Pairs of one label are pulled together, others pushed to a distance (Hadsell et al. 2006, eq. 4)."""

    positive_margin: float = 0.0
    """Distance below which a pair of one label is near enough."""
    negative_margin: float = 0.5
    """Distance above which a pair of two labels is far enough; the largest there is is 2. Below the distances that an
    imported encoder begins with nothing is pushed apart, and what learns can collapse: choose more than those."""
    squared: bool = True
    """Square the hinges, as published; without it they are pytorch-metric-learning's."""

    def check(self) -> None:
        if not 0 <= self.positive_margin < self.negative_margin <= 2:
            raise UserError(
                f"method.criterion.positive_margin={self.positive_margin} must be at least 0 and below "
                f"method.criterion.negative_margin={self.negative_margin}, which must be at most 2"
            )

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        margins = {"positive_margin": self.positive_margin, "negative_margin": self.negative_margin}
        return losses.contrastive_pairs(z, labels, **margins, squared=self.squared, references=references)


@dataclasses.dataclass(frozen=True)
class SupCon(PairLoss):
    """All views of all items of a label attract (Khosla et al. 2020, eq. 2); the paper's projector is an MLP."""

    temperature: Scheduled = 0.1
    """Divides the cosines: a number or a schedule."""

    def check(self) -> None:
        check_schedule("method.criterion.temperature", self.temperature, above=0)

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        return losses.sup_con(z, labels, temperature=value_at(self.temperature, progress), references=references)


@dataclasses.dataclass(frozen=True)
class MultiSimilarity(PairLoss):
    """Pairs count by their similarity and by that of others (Wang et al. 2019, eq. 15), without the paper's mining."""

    alpha: float = 2.0
    """How much the least similar positives count above the others."""
    beta: float = 50.0
    """How much the most similar negatives count above the others."""
    base: float = 0.5
    """The cosine on whose right side pairs should be."""

    def check(self) -> None:
        if min(self.alpha, self.beta) <= 0 or not -1 <= self.base <= 1:
            raise UserError(
                f"method.criterion.alpha={self.alpha} and method.criterion.beta={self.beta} must be above 0, and "
                f"method.criterion.base={self.base} a cosine, in [-1, 1]"
            )

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        weights = {"alpha": self.alpha, "beta": self.beta, "base": self.base}
        return losses.multi_similarity(z, labels, **weights, references=references)


@dataclasses.dataclass(frozen=True)
class Lifted(PairLoss):
    """Each positive pair against all the negatives of both its items (Song et al. 2016, eq. 4)."""

    margin: Scheduled = 1.0
    """Distance by which negatives should be further away: a number or a schedule."""

    def check(self) -> None:
        check_schedule("method.criterion.margin", self.margin, least=0, most=2)

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        return losses.lifted_structure(z, labels, margin=value_at(self.margin, progress), references=references)


@dataclasses.dataclass(frozen=True)
class NPairs(PairLoss):
    """Of each class an anchor finds its positive among those of all classes (Sohn 2016, section 3.2.2).

    It takes the first two items of each class: for batches of many classes x 2 items.
    """

    remembers: ClassVar[bool] = False
    item_by_item: ClassVar[bool] = False  # the first two rows of a class are then of two items, if it has two

    norm_weight: float = 0.02
    """Weight of the mean squared norm, which the paper adds as its inner products are of vectors of any length."""
    normalise: bool = False
    """Compare unit vectors times `scale` instead; the norms then cost nothing."""
    scale: float = 16.0
    """Factor on the cosines of unit vectors."""

    def check(self) -> None:
        if self.norm_weight < 0 or self.scale <= 0:
            raise UserError(
                f"method.criterion.norm_weight={self.norm_weight} must be at least 0 and "
                f"method.criterion.scale={self.scale} above 0"
            )

    def __call__(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """See `losses.n_pairs`; with the penalty on norms."""
        if self.normalise:
            return losses.n_pairs(losses.l2_normalise(z) * self.scale**0.5, labels)
        return losses.n_pairs(z, labels) + self.norm_weight * _mean_squared_norm(z, labels)

    def figures(self, z: Array, labels: Array, progress: Progress) -> Metrics:
        """The mean squared norm, if it counts."""
        return {} if self.normalise else {"squared_norm": _mean_squared_norm(z, labels)}


def _mean_squared_norm(z: Array, labels: Array) -> Array:
    known = labels >= 0
    return jnp.sum(jnp.where(known, jnp.sum(z**2, axis=1), 0)) / jnp.maximum(jnp.sum(known), 1)


@dataclasses.dataclass(frozen=True)
class ClassLoss(Criterion, abc.ABC):
    """A loss against a learnt vector of each class, which stands for the class's items of all batches.

    The vectors are in the parameters, and split over the devices of `shards` along the classes, if their number is a
    multiple of it: millions of classes take no more memory on each of eight devices than an eighth of them.
    """

    classes: int = 0
    """How many classes the labels have: the data's labels must be below it."""

    @abc.abstractmethod
    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        """The loss f32[] of embeddings f32[N, D] with labels i32[N] and the classes' vectors."""

    def shape(self, features: int) -> tuple[int, ...]:
        """Of the classes' vectors."""
        return self.classes, features

    def check(self) -> None:
        if self.classes < 2:
            raise UserError(
                f"method.criterion.classes={self.classes} must be the number of the data's classes, at least 2"
            )

    def check_items(self, items: Any) -> None:
        """Raises UserError if the labels of the train split are not those of the classes."""
        largest = int(np.max(items.label))
        if largest >= self.classes:
            needed = max(largest + 1, len(items.label_names))
            raise UserError(
                f"method.criterion.classes={self.classes} is too small for labels from 0 to {needed - 1}: set it to "
                f"{needed}"
            )


@dataclasses.dataclass(frozen=True)
class ProxyNCA(ClassLoss):
    """An item is nearest to its class's proxy (Movshovitz-Attias et al. 2017, algorithm 1), its own among all proxies.

    The paper's proxies learn 100 times as fast.
    """

    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        return losses.proxy_nca(z, vectors, labels)


@dataclasses.dataclass(frozen=True)
class ProxyAnchor(ClassLoss):
    """Each class's proxy against all items of the batch (Kim et al. 2020, eq. 4); published at 100 x the rate."""

    scale: float = 32.0
    """How much the items count that are furthest from where they should be."""
    margin: float = 0.1
    """Cosine above which items are near enough to their proxy, and below minus which far enough from others."""

    def check(self) -> None:
        super().check()
        if self.scale <= 0 or not 0 <= self.margin < 1:
            raise UserError(
                f"method.criterion.scale={self.scale} must be above 0 and method.criterion.margin={self.margin} a "
                "cosine, in [0, 1)"
            )

    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        return losses.proxy_anchor(z, vectors, labels, scale=self.scale, margin=self.margin)


@dataclasses.dataclass(frozen=True)
class ArcFace(ClassLoss):
    """A softmax over scaled cosines, with a margin on the angle with the own class (Deng et al. 2019, eq. 3)."""

    largest_margin: ClassVar[float] = math.pi / 2

    scale: float = 64.0
    """Factor on the cosines; 30 or so for few classes."""
    margin: Scheduled = 0.5
    """Radians: a number, or a schedule, such as Linear(0.0, 0.5, until=0.2) for a ramp."""
    class_sizes: tuple[int, ...] = ()
    """Photos of each class, for margins by size (Ha et al. 2020, equation 1): the smallest has `margin`."""
    size_power: float = 0.25
    """Margins are a / size^this + b."""
    size_floor: float = 0.1
    """The margin of the largest class, as a share of the smallest's."""

    def check(self) -> None:
        super().check()
        check_schedule("method.criterion.margin", self.margin, least=0, most=self.largest_margin)
        if self.scale <= 0:
            raise UserError(f"method.criterion.scale={self.scale} must be above 0, such as 64")
        if self.class_sizes and len(self.class_sizes) != self.classes:
            raise UserError(
                f"method.criterion.class_sizes has {len(self.class_sizes)} numbers and there are {self.classes} "
                "classes: give one for each, or none"
            )
        if min(self.class_sizes, default=0) < 0 or self.size_power <= 0 or not 0 <= self.size_floor <= 1:
            raise UserError(
                f"method.criterion.class_sizes must be at least 0, method.criterion.size_power={self.size_power} above "
                f"0, and method.criterion.size_floor={self.size_floor} a share, in [0, 1]"
            )

    def check_items(self, items: Any) -> None:
        super().check_items(items)
        if len(self.class_sizes) != self.classes:
            return  # none, or refused by `check`
        sizes = np.bincount(items.label[items.label >= 0], minlength=self.classes)
        wrong = np.flatnonzero((sizes > 0) & (np.array(self.class_sizes) == 0))
        if len(wrong):
            raise UserError(
                f"method.criterion.class_sizes is 0 for {len(wrong)} classes that have photos, such as {wrong[0]} with "
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

    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        return losses.arcface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))


@dataclasses.dataclass(frozen=True)
class CosFace(ArcFace):
    """ArcFace with the margin on the cosine (Wang et al. 2018, eq. 4); with one of 0 it is the normalised softmax."""

    largest_margin: ClassVar[float] = 1.0

    margin: Scheduled = 0.35
    """What is taken off the cosine with the item's own class: a number or a schedule."""

    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        return losses.cosface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))


@dataclasses.dataclass(frozen=True)
class SubCenterArcFace(ArcFace):
    """ArcFace with several centers a class, of which the nearest counts: for noise and modes (Deng et al. 2020)."""

    centers: int = 3
    """Centers of each class."""

    def shape(self, features: int) -> tuple[int, ...]:
        return self.classes, self.centers, features

    def check(self) -> None:
        super().check()
        if self.centers < 1:
            raise UserError(f"method.criterion.centers={self.centers} is too small: it must be at least 1")

    def __call__(self, z: Array, vectors: Array, labels: Array, *, progress: Progress) -> Array:
        return losses.sub_center_arcface(z, vectors, labels, scale=self.scale, margin=self.margins(progress))
