"""SupCon (Khosla et al. 2020, arXiv 2004.11362): all views of all items of a label attract."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from ssljax.losses import sup_con
from ssljax.methods.one_network import Pairwise
from ssljax.models import MLP
from ssljax.schedules import check_schedule, value_at
from ssljax.types import Array, Aux, Batch, Params, UserError


@dataclasses.dataclass(frozen=True)
class SupCon(Pairwise):
    """Supervised contrastive learning; the data must have labels, and items without one are left out."""

    projector: Any = MLP(hidden=(2048,), out=256, batch_norm=True)
    """Maps embeddings to what the loss compares."""
    temperature: Any = 0.1
    """Divides the cosines: a number or a schedule."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        check_schedule("method.temperature", self.temperature, above=0)
        if "label" not in batch:
            raise UserError("SupCon learns from labels, and the data has none: name the label's column in `data`")
        return super().init(rng, batch)

    def compare(self, z1: Array, z2: Array, batch: Batch, progress: Array) -> Array:
        """Equation 2, over both views of every item."""
        z = jnp.stack([z1, z2], axis=1).reshape(-1, z1.shape[1])
        return sup_con(z, jnp.repeat(batch["label"], 2), temperature=value_at(self.temperature, progress))
