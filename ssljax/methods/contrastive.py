"""Contrastive (Hadsell et al. 2006): a Siamese network, its pairs pulled together by label or pushed to a distance."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ssljax.losses import contrastive_pairs
from ssljax.methods.one_network import Pairwise
from ssljax.models import Identity
from ssljax.types import Array, Aux, Batch, Params, UserError


@dataclasses.dataclass(frozen=True)
class Contrastive(Pairwise):
    """The Siamese baseline of same-item matching; the data must have labels, and items without one are left out."""

    projector: Any = Identity()
    """Maps embeddings to what the loss compares: nothing, as embeddings are what is searched."""
    positive_margin: float = 0.0
    """Distance of unit vectors below which a pair of one label is near enough."""
    negative_margin: float = 0.5
    """Distance above which a pair of two labels is far enough; the largest there is is 2."""
    squared: bool = True
    """Square the hinges, as published; without it they are pytorch-metric-learning's."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if not 0 <= self.positive_margin < self.negative_margin <= 2:
            raise UserError(
                f"method.positive_margin={self.positive_margin} must be at least 0 and below "
                f"method.negative_margin={self.negative_margin}, which must be at most 2"
            )
        if "label" not in batch:
            raise UserError("Contrastive learns from labels, and the data has none: name the label's column in `data`")
        return super().init(rng, batch)

    def compare(self, z1: Array, z2: Array, batch: Batch, progress: Array) -> Array:
        """Equation 4, over both views of every item."""
        return contrastive_pairs(
            jnp.stack([z1, z2], axis=1).reshape(-1, z1.shape[1]),
            jnp.repeat(batch["label"], 2),
            positive_margin=self.positive_margin,
            negative_margin=self.negative_margin,
            squared=self.squared,
        )
