"""Triplets that are given: three views an item, of an anchor, a positive and a negative photo."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ssljax.losses import embedding_std, triplet_excess, view_cosines
from ssljax.losses.pairs import mean_of_counted
from ssljax.methods.base.one_network import OneNetwork, State
from ssljax.models import Identity
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, LossAndState, Params, Progress, Scheduled, UserError


@dataclasses.dataclass(frozen=True)
class GivenTriplets(OneNetwork):
    """The triplet loss of what a sampler mined beforehand; no labels are needed, and no other triplets are made."""

    projector: Any = Identity()
    """Maps embeddings to what the loss compares: nothing, as embeddings are what is searched."""
    margin: Scheduled = 0.2
    """Distance of unit vectors by which the negative must be further away: a number or a schedule."""

    def check(self, items: Any, batches: Any, views: int) -> None:
        if batches.alike:
            raise UserError(
                "GivenTriplets needs items of an anchor, a positive and a negative, and the sampler's are of photos "
                "that are alike: choose sampler=Triplets()"
            )

    def check_settings(self, batch: Batch) -> None:
        check_schedule("method.margin", self.margin, least=0, most=2)
        count = len(batch["views"])
        if count != 3:
            raise UserError(
                f"views make {count} view{'s' * (count > 1)}, and GivenTriplets needs three, of an anchor, a positive "
                "and a negative photo: choose a sampler of triplets, and views that make one of each photo"
            )

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """The mean over the triplets that violate the margin; all photos are normalised as one batch."""
        views, stats = self.network.train_crops(params, aux.stats, batch["views"], rng)
        anchor, positive, negative = (view["projector"] for view in views)
        excess = triplet_excess(anchor, positive, negative, margin=value_at(self.margin, progress))
        figures = {
            "embedding_std": embedding_std(views[0]["encoder"]),
            "active_triplets": jnp.mean(excess > 0),
            "positive_cosine": view_cosines(anchor, positive)[0],
            "negative_cosine": view_cosines(anchor, negative)[0],
        }
        return mean_of_counted(excess, excess > 0), (State(stats), figures)
