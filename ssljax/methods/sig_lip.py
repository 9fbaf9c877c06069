"""SigLIP (Zhai et al. 2023, arXiv 2303.15343): for each photo and title of the batch, whether they belong together."""

import dataclasses
import math

import jax.numpy as jnp

from ssljax.losses import siglip
from ssljax.methods.base.photo_title_pairs import PhotoTitlePairs
from ssljax.types import Array, Batch, Params, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigLIP(PhotoTitlePairs):
    """SigLIP: the sigmoid loss of all pairs of photos and titles, with a learnt scale and a learnt bias."""

    scale: float = 10.0
    """Multiplies the cosines before the first step; its logarithm is learnt."""
    bias: float = -10.0
    """Added to these before the first step, and learnt: below 0, as most pairs are of two items."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        if self.scale <= 0:
            raise UserError(f"method.scale={self.scale} must be above 0: try 10")

    def initial_scale(self) -> Params:
        """The logarithm of the scale, and the bias."""
        return {"log_scale": jnp.float32(math.log(self.scale)), "bias": jnp.float32(self.bias)}

    def compare(
        self, params: Params, photo: Array, title: Array, valid: Array, ids: Array | None
    ) -> tuple[Array, dict[str, Array]]:
        """Algorithm 1: the sum over all pairs, divided by the number of items."""
        scale, bias = jnp.exp(params["log_scale"]), params["bias"]
        return siglip(photo, title, scale=scale, bias=bias, valid=valid, ids=ids), {"scale": scale, "bias": bias}
