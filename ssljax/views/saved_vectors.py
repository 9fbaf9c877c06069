"""The views of photos that a network has embedded already."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from ssljax.types import Batch, UserError


@dataclasses.dataclass(frozen=True)
class SavedVectors:
    """A view of each photo of an item, the vector that `SavedEmbeddings` has of it: training takes minutes.

    Nothing is augmented, and only photos with a vector can be embedded: new ones need the network that made the
    vectors, and then this one.
    """

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`, N of f32[B, D]; raises UserError if the data has no vectors."""
        if "vectors" not in batch:
            raise UserError("views=SavedVectors() reads vectors, and there are none: set data=SavedEmbeddings(...)")
        return batch | {"views": tuple(jnp.unstack(batch["vectors"], axis=1))}

    def evaluation(self, batch: Batch) -> Batch:
        """The batch with one of `views`, f32[B, D]."""
        views = self(jax.random.PRNGKey(0), batch)["views"]
        return batch | {"views": views[:1]}
