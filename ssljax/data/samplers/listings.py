"""Listings: some photos of every listing, for views of one item in different photos."""

import dataclasses

import numpy as np

from ssljax.data.items import Items
from ssljax.data.samplers.base import Batches, Groups
from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Listings:
    """Every listing once an epoch, with some of its photos: for natural views, two photos of one listing.

    No listing comes twice in a batch, so that none of its photos is another's negative.
    """

    photos: int = 2
    """Photos of each listing, all different; one that has fewer gives some of them again."""

    def __post_init__(self):
        check_fields(self, "sampler", photos=1)

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        if items.listing is None:
            raise UserError("sampler=Listings() needs listings, and the data has none: name the column in data.listing")
        order = np.argsort(items.listing, kind="stable")
        sizes = np.unique(items.listing, return_counts=True)[1]
        if self.photos > 1 and sizes.max() == 1:
            raise UserError(
                f"sampler=Listings() needs listings of several photos, and each of the {len(sizes)} has one: "
                "name another column in data.listing, or leave the sampler as it is"
            )
        m, draw, identity = len(sizes), Groups(order, sizes, self.photos, seed).draw, {"photos": len(order)}
        if self.photos > 1:
            identity |= {"items": m, "photos_of_an_item": self.photos}
        return Batches(draw, m, "listings", identity, batch_size=batch_size, seed=seed, shard=shard, photos=self.photos)
