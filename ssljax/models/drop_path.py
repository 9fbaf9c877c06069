"""Stochastic depth (Huang et al. 2016): in training, each image leaves out some of the residual branches."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.types import Array, UserError


class DropPath(nn.Module):
    """Zeroes a branch for a share `rate` of the images, and divides it by 1 - rate for the others.

    It acts only with `train` and where `apply` is given an rng named "drop_path": a student has one, a teacher has not.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, ...]; gives the same."""
        if not (train and self.rate and self.has_rng("drop_path")):
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.rate, shape)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def rates(drop_path: float, blocks: int) -> list[float]:
    """The rate of each block: from 0 in the first, in a straight line, to `drop_path` in the last.

    Raises UserError if `drop_path` is not in [0, 1).
    """
    if not 0 <= drop_path < 1:
        raise UserError(f"drop_path={drop_path} must be a share of the images, in [0, 1), such as 0.1")
    return [drop_path * i / max(1, blocks - 1) for i in range(blocks)]
