"""Crops of photos: one of each photo, two that a method makes agree, or two large ones and many small ones."""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.models import Preprocessing
from ssljax.models.weights.preprocessing import Filter, Fit
from ssljax.types import Batch, UserError, check_fields
from ssljax.views.augment import Augmentation, augment, channels_last
from ssljax.views.boxes import central_boxes, pad_to_square, resize


@dataclasses.dataclass(frozen=True)
class OneCropEach(Augmentation):
    """A random crop of each photo of an item: one view with `Classes`, three with `Triplets`, in the photos' order."""

    size: int = 224
    """Side of a view, in pixels."""
    evaluation_size: int | None = None
    """Side of the view that is embedded; None for `size`. Random crops enlarge things, so that a larger whole photo is
    closer to the training views (Touvron et al. 2019, "FixRes")."""
    fit: Fit = "crop"
    """What is embedded: the largest central crop that `ratio` allows, squeezed into the square; the largest central
    square; the whole photo, squeezed; or the whole photo on a white square, with its aspect ratio kept."""
    share: float = 1.0
    """Of each side of what `fit` makes, the central part that is embedded (timm's crop_pct)."""
    resampling: Filter = "bilinear"
    """The filter by which what is embedded is resized, antialiased; training views are bilinear."""
    mean: tuple[float, float, float] | None = None
    """Subtracted from red, green and blue in [0, 1]; None for what the encoder's weights were trained with, which is
    ImageNet's mean unless they say otherwise."""
    std: tuple[float, float, float] | None = None
    """What red, green and blue are then divided by; None as for `mean`."""

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "views", size=2, evaluation_size=2)
        if self.std and min(self.std) <= 0:
            raise UserError(f"views.std={self.std} must be above 0: pixels are divided by it")
        if not 0 < self.share <= 1:
            raise UserError(f"views.share={self.share} is not a share: it must be above 0 and at most 1")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: N arrays f32[B, size, size, 3], normalised."""
        photos = zip(jnp.unstack(batch["image"], axis=1), jnp.unstack(batch["aspect"], axis=1), strict=True)
        views = (augment(jax.random.fold_in(rng, k), *photo, self.size, self) for k, photo in enumerate(photos))
        return batch | {"views": tuple(map(self._normalise, views))}

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with one of `views`, f32[B, S, S, 3]: as `fit` has it."""
        photos, aspect, size = batch["image"][:, 0], batch["aspect"][:, 0], self.evaluation_size or self.size
        if self.fit == "pad":
            images = pad_to_square(photos, aspect, size, self.share, self.resampling)
        else:
            ratio = {"crop": self.ratio, "square": (1.0, 1.0), "squeeze": (aspect, aspect)}[self.fit]
            images = resize(photos, central_boxes(aspect, ratio, self.share), size, filter=self.resampling)
        return batch | {"views": (self._normalise(channels_last(images.clip(0, 1))),)}

    def pixels(self, view: Array) -> Array:
        """f32[B, h, w, 3] in [0, 1], a view as it was before it was normalised."""
        mean, std = self._statistics()
        return view * std + mean

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to a photo that is embedded."""
        imagenet = Preprocessing()
        mean, std = self.mean or imagenet.mean, self.std or imagenet.std
        return Preprocessing(self.evaluation_size or self.size, mean, std, self.fit, self.share, self.resampling)

    def suited_to(self, preprocessing: Preprocessing) -> Self:
        """With the mean and the standard deviation of `preprocessing`, where these are None."""
        return dataclasses.replace(self, mean=self.mean or preprocessing.mean, std=self.std or preprocessing.std)

    def _normalise(self, images: Array) -> Array:
        mean, std = self._statistics()
        return (images - mean) / std

    def _statistics(self) -> tuple[Array, Array]:
        """The mean and the standard deviation, f32[1, 1, 1, 3]."""
        mean, std = jnp.array(self.preprocessing.mean), jnp.array(self.preprocessing.std)
        return mean[None, None, None], std[None, None, None]


@dataclasses.dataclass(frozen=True)
class TwoCrops(OneCropEach):
    """Two random crops of each photo; the fields of `Augmentation` are those of the first.

    Both views alike, as in MoCo and SimCLR: `TwoCrops(size=32, blur=0.0)`. Different, as in BYOL:
    `TwoCrops(size=32, blur=1.0, second=Augmentation(blur=0.1, solarise=0.2))`.
    """

    second: Any = None
    """The second view's `Augmentation`; None for the same as the first's."""
    natural: float = 0.0
    """Share of the items whose second view shows another photo of the listing ("natural views"), which needs
    `sampler=Listings()`."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.natural <= 1:
            raise UserError(f"views.natural={self.natural} is not a share: choose from 0 to 1")
        if not (self.second is None or isinstance(self.second, Augmentation)):
            raise UserError(f"views.second={self.second!r} must be an Augmentation, or None")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: two arrays f32[B, size, size, 3], normalised; `shown`: which photo each view shows.

        Raises UserError if natural views are wanted and the batch has one photo an item.
        """
        rng1, rng2 = jax.random.split(rng)
        first, shown1 = self._photos(rng, batch, 0.0)
        other, shown2 = self._photos(rng, batch, self.natural)
        views = (augment(rng1, *first, self.size, self), augment(rng2, *other, self.size, self.second or self))
        return batch | {"views": tuple(map(self._normalise, views)), "shown": (shown1, shown2)}

    def _photos(self, rng: Array, batch: Batch, share: float) -> tuple[tuple[Array, Array], Array]:
        """u8[B, S, S, 3] and f32[B], a photo of each item and its aspect ratio; and which one, i32[B].

        In a `share` of the items it is the second one, 1, and in the others the first, 0.
        """
        image, aspect = batch["image"], batch["aspect"]
        if not share:
            return (image[:, 0], aspect[:, 0]), jnp.zeros(aspect.shape[:1], jnp.int32)
        if image.shape[1] < 2:
            raise UserError(f"views.natural={self.natural} needs two photos of a listing: choose sampler=Listings()")
        second = jax.random.bernoulli(jax.random.fold_in(rng, 3), share, aspect.shape[:1])
        chosen = jnp.where(second[:, None, None, None], image[:, 1], image[:, 0])
        return (chosen, jnp.where(second, aspect[:, 1], aspect[:, 0])), second.astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class MultiCrop(TwoCrops):
    """The two global crops of `TwoCrops`, and local crops, which show less of the photo in fewer pixels.

    With natural views the local crops are of the second photo in half as many items as the second global crop.

    The defaults are those of DINO's code (Caron et al. 2021, arXiv 2104.14294); its paper has global crops of at least
    0.25 of the photo. SwAV (Caron et al. 2020, arXiv 2006.09882) with SimCLR's colours:

        colours = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
        MultiCrop(
            **colours, scale=(0.14, 1.0), second=None,
            local=Augmentation(**colours, scale=(0.05, 0.14)), local_count=6,
        )
    """

    scale: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest area of the first global crop, as a share of the photo's."""
    saturation: float = 0.2
    """Saturation is multiplied by up to 1 ± this."""
    blur: float = 1.0
    """Probability of Gaussian blur."""
    second: Any = Augmentation(scale=(0.4, 1.0), saturation=0.2, blur=0.1, solarise=0.2)
    """The second global crop's `Augmentation`; None for the same as the first's."""
    local: Any = Augmentation(scale=(0.05, 0.4), saturation=0.2, blur=0.5)
    """The local crops' `Augmentation`."""
    local_size: int = 96
    """Side of a local crop, in pixels."""
    local_count: int = 8
    """Local crops of each photo; 0 for none."""

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.local, Augmentation):
            raise UserError(
                f"views.local={self.local!r} must be an Augmentation, such as Augmentation(scale=(0.05, 0.4))"
            )
        check_fields(self, "views", local_size=2, local_count=0)

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: the two of `TwoCrops`, then `local_count` of f32[B, local_size, local_size, 3]."""
        batch = super().__call__(rng, batch)
        if not self.local_count:
            return batch
        photos, chosen = self._photos(rng, batch, self.natural / 2)
        crops = augment(
            jax.random.fold_in(rng, 2),  # the two global crops have the keys 0 and 1
            *photos,
            self.local_size,
            self.local,
            self.local_count,
        )
        crops = self._normalise(crops).reshape(-1, self.local_count, *crops.shape[1:])
        shown = (*batch["shown"], *[chosen] * self.local_count)
        return batch | {"views": (*batch["views"], *jnp.unstack(crops, axis=1)), "shown": shown}
