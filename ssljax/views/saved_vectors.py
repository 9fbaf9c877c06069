"""Views of photos that a network has embedded already."""

import dataclasses

import jax.numpy as jnp
from jax import Array

from ssljax.types import Batch, UserError


@dataclasses.dataclass(frozen=True)
class SavedVectors:
    """One view for each photo of an item: its vector in `SavedEmbeddings`, so that training takes minutes.

    Nothing is augmented, and only photos with a vector can be embedded: new ones need the network that made the
    vectors, and then this one.
    """

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`, N arrays f32[B, D]; raises UserError if the data has no vectors."""
        return batch | {"views": tuple(jnp.unstack(_vectors(batch), axis=1))}

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with a single view, f32[B, D], the first photo's; raises UserError if the data has no vectors."""
        return batch | {"views": (_vectors(batch)[:, 0],)}


def _vectors(batch: Batch) -> Array:
    """f32[B, N, D]"""
    if "vectors" not in batch:
        raise UserError("views=SavedVectors() reads vectors, and the data has none: set data=SavedEmbeddings(...)")
    return batch["vectors"]
