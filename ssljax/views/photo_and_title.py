"""Views of photos with their titles, for networks that read both."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.models import Preprocessing
from ssljax.models.listing import Listing
from ssljax.types import Batch, UserError, Views, check_fields, short
from ssljax.views.crops import OneCropEach


@dataclasses.dataclass(frozen=True)
class PhotoAndTitle:
    """`PhotoAndTitle(OneCropEach(size=128), drop_title=0.1)`: each view is a photo's, with its title, in a `Listing`.

    It needs `Experiment.titles`. In training one of the two is hidden at times (modality dropout), never both, so that
    items without a title, and titles without a photo, are embedded well too.
    """

    photo: Views = OneCropEach()
    """The views of the photos."""
    drop_photo: float = 0.0
    """Share of views whose photo is hidden."""
    drop_title: float = 0.0
    """Share of views whose title is hidden."""

    def __post_init__(self):
        check_fields(self, "views", drop_photo=0, drop_title=0)
        if missing := [name for name in ("__call__", "evaluation") if not hasattr(self.photo, name)]:
            raise UserError(f"views.photo={short(self.photo)} must be views, but has no {' and no '.join(missing)}")
        if self.drop_photo + self.drop_title > 1:
            raise UserError(
                f"views.drop_photo={self.drop_photo} and views.drop_title={self.drop_title} hide more than there is: "
                "choose shares whose sum is at most 1"
            )

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`: the photos' views, each with the title of its photo."""
        batch, views, count = self.photo(rng, batch), [], batch["image"].shape[1]
        for k, photo in enumerate(batch["views"]):
            alone = k if len(batch["views"]) == count else 0  # a view of each photo, or all of the first
            title = _title(batch, batch["shown"][k] if "shown" in batch else alone)
            chance = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(rng, 5), k), title.shape[:1])
            drop_title = (chance >= self.drop_photo) & (chance < self.drop_photo + self.drop_title)
            # what has no title keeps its photo
            has_photo = (chance >= self.drop_photo) | ~jnp.any(title >= 0, axis=1)
            views.append(Listing(photo, jnp.where(drop_title[:, None], -1, title), has_photo))
        return batch | {"views": tuple(views)}

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with one of `views`: all of both. `has_photo` bool[B, 1], if the batch has it, hides photos."""
        batch = self.photo.evaluation(batch)
        photo, title = batch["views"][0], _title(batch, 0)
        has_photo = batch["has_photo"][:, 0] if "has_photo" in batch else jnp.ones(photo.shape[0], bool)
        return batch | {"views": (Listing(photo, title, has_photo),)}

    def pixels(self, view: Listing) -> Array:
        """f32[B, h, w, 3] in [0, 1], the photo as people see it."""
        return self.photo.pixels(view.photo)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is done to a photo that is embedded."""
        return getattr(self.photo, "preprocessing", None)

    def suited_to(self, preprocessing: Preprocessing) -> "PhotoAndTitle":
        """With the mean and the standard deviation of `preprocessing`, where the photos' views have none."""
        suited: Any = getattr(self.photo, "suited_to", None)
        return dataclasses.replace(self, photo=suited(preprocessing)) if suited else self


def _title(batch: Batch, shown: int | Array) -> Array:
    """i32[B, L], the titles of the items' photos number `shown`, i32[B]; none where the batch has no titles."""
    if "title" not in batch:
        return jnp.full((batch["image"].shape[0], 1), -1, jnp.int32)
    if isinstance(shown, int):
        return batch["title"][:, shown]
    return jnp.take_along_axis(batch["title"], shown[:, None, None], axis=1)[:, 0]
