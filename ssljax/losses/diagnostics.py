"""Figures that show how a training does, cheap enough to log at every step."""

import jax.numpy as jnp

from ssljax.losses.normalise import l2_normalise
from ssljax.types import Array


def embedding_std(z: Array) -> Array:
    """f32[], the standard deviation over the batch of the normalised z f32[B, D], averaged over D, times sqrt(D).

    1 for directions spread evenly, 0 if all embeddings are the same (SimSiam, Chen and He 2021, section 4.1).
    """
    return jnp.mean(jnp.std(l2_normalise(z), axis=0)) * jnp.sqrt(z.shape[1])
