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
    """`PhotoAndTitle(OneCropEach(size=128), drop_title=0.1)`: each view of a photo, with its title, as a `Listing`.

    It needs `Experiment.titles`. In training one of the two is hidden at times (modality dropout), never both, so that
    items without a title, and titles without a photo, are embedded well too.
    """

    photo: Views = OneCropEach()
    """The views of the photos."""
    drop_photo: float = 0.0
    """Probability that the photo of an item with a title is hidden."""
    drop_title: float = 0.0
    """Probability that the title is hidden."""

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
        """The batch with `views`: the photos' views as `Listing`s, each with the title of the photo that it shows."""
        batch = self.photo(rng, batch)
        one_of_each = len(batch["views"]) == batch["image"].shape[1]  # else all views are of the first photo
        views = []
        for k, photo in enumerate(batch["views"]):
            shown = batch["shown"][k] if "shown" in batch else k * one_of_each
            listing = Listing(photo, _titles(batch, shown), jnp.ones(len(photo), bool))
            views.append(self._with_one_hidden(jax.random.fold_in(jax.random.fold_in(rng, 5), k), listing))
        return batch | {"views": tuple(views)}

    def _with_one_hidden(self, rng: Array, listing: Listing) -> Listing:
        """Photos and titles, some of which are hidden; an item without a title keeps its photo."""
        chance = jax.random.uniform(rng, listing.has_photo.shape)
        hide_photo = (chance < self.drop_photo) & listing.has_title
        hide_title = (chance >= self.drop_photo) & (chance < self.drop_photo + self.drop_title)
        return Listing(listing.photo, jnp.where(hide_title[:, None], -1, listing.title), ~hide_photo)

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with a single view, a `Listing`; `has_photo` bool[B, 1] of the batch says which photos to show."""
        batch = self.photo.evaluation(batch)
        photo = batch["views"][0]
        has_photo = batch["has_photo"][:, 0] if "has_photo" in batch else jnp.ones(len(photo), bool)
        return batch | {"views": (Listing(photo, _titles(batch, 0), has_photo),)}

    def pixels(self, view: Listing) -> Array:
        """f32[B, h, w, 3] in [0, 1], the photo as people see it."""
        return self.photo.pixels(view.photo)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How the photos' views normalise and size a photo; None if they do not say."""
        return getattr(self.photo, "preprocessing", None)

    def suited_to(self, preprocessing: Preprocessing) -> "PhotoAndTitle":
        """With the mean and the standard deviation of `preprocessing`, where the photos' views have none."""
        suited: Any = getattr(self.photo, "suited_to", None)
        return dataclasses.replace(self, photo=suited(preprocessing)) if suited else self


def _titles(batch: Batch, shown: int | Array) -> Array:
    """i32[B, L], the titles of the items' photos number `shown`, one for all or i32[B]; blank if the batch has none."""
    if "title" not in batch:
        return jnp.full((batch["image"].shape[0], 1), -1, jnp.int32)
    if isinstance(shown, int):
        return batch["title"][:, shown]
    return jnp.take_along_axis(batch["title"], shown[:, None, None], axis=1)[:, 0]
