"""One random view of each photo: of a labelled one, or of anchor, positive and negative."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.types import Batch, UserError
from ssljax.views.augment import Augmentation, augment, channels_last
from ssljax.views.crop import central_boxes, resize


@dataclasses.dataclass(frozen=True)
class OneCropEach(Augmentation):
    """A random crop of each photo of an item: one view with `Classes`, three with `Triplets`, in the photos' order."""

    size: int = 224
    """Side of a view, in pixels."""
    evaluation_size: int | None = None
    """Side of the view that is embedded; None for `size`. A crop shows things larger than the whole photo does, so that
    a larger whole photo is nearer to what was trained on (Touvron et al. 2019, "FixRes")."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue in [0, 1]; the default is ImageNet's mean."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What red, green and blue are then divided by; the default is ImageNet's standard deviation."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("size", "evaluation_size"):
            side = getattr(self, name)
            if side is not None and side < 2:
                raise UserError(f"views.{name}={side}: choose the side of a view in pixels, such as 32 or 224")
        if min(self.std) <= 0:
            raise UserError(f"views.std={self.std} must be above 0: pixels are divided by it")

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: N arrays f32[B, size, size, 3], normalised."""
        photos = zip(jnp.unstack(batch["image"], axis=1), jnp.unstack(batch["aspect"], axis=1), strict=True)
        views = (augment(jax.random.fold_in(rng, k), *photo, self.size, self) for k, photo in enumerate(photos))
        return batch | {"views": tuple(map(self._normalise, views))}

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with one of `views`, f32[B, S, S, 3]: the largest central crop that `ratio` allows."""
        boxes = central_boxes(batch["aspect"][:, 0], self.ratio)
        images = resize(batch["image"][:, 0], boxes, self.evaluation_size or self.size)
        return batch | {"views": (self._normalise(channels_last(images)),)}

    def pixels(self, view: Array) -> Array:
        """f32[B, h, w, 3] in [0, 1], a view as it was before it was normalised."""
        return view * jnp.array(self.std)[None, None, None] + jnp.array(self.mean)[None, None, None]

    def _normalise(self, images: Array) -> Array:
        mean, std = jnp.array(self.mean), jnp.array(self.std)
        return (images - mean[None, None, None]) / std[None, None, None]
