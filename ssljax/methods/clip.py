"""CLIP (Radford et al. 2021, arXiv 2103.00020): a photo finds its title among those of the batch, and the reverse."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from ssljax.losses import in_batch_info_nce
from ssljax.methods.base.photo_title_pairs import PhotoTitlePairs
from ssljax.types import Array, Batch, Params, UserError

LARGEST_SCALE = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP(PhotoTitlePairs):
    """CLIP: InfoNCE between photos and titles in both directions, with a learnt temperature."""

    temperature: float = 0.07
    """Divides the cosines before the first step; from then on it is learnt, as the logarithm of its inverse, the scale,
    which is 100 at most."""

    def check_settings(self, batch: Batch) -> None:
        super().check_settings(batch)
        if self.temperature < 1 / LARGEST_SCALE:
            raise UserError(f"method.temperature={self.temperature} must be at least {1 / LARGEST_SCALE}: try 0.07")

    def initial_scale(self) -> Params:
        """The logarithm of 1 / temperature."""
        return {"log_scale": jnp.float32(-math.log(self.temperature))}

    def compare(
        self, params: Params, photo: Array, title: Array, valid: Array, ids: Array | None
    ) -> tuple[Array, dict[str, Array]]:
        """Figure 3: the mean of both directions."""
        scale = jnp.exp(_capped(params["log_scale"], math.log(LARGEST_SCALE)))
        contrast = functools.partial(in_batch_info_nce, temperature=1 / scale, valid=valid, ids=ids)
        return (contrast(photo, title) + contrast(title, photo)) / 2, {"scale": scale}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _capped(x: Array, most: float) -> Array:
    """`x`, at most `most`; beyond it, a gradient passes only if its descent leads back.

    The authors clip the parameter after each step, which a loss cannot. A plain minimum would never come back.
    """
    return jnp.minimum(x, most)


_capped.defvjp(
    lambda x, most: (jnp.minimum(x, most), x),
    lambda most, x, g: (jnp.where((x < most) | (g > 0), g, 0),),
)
