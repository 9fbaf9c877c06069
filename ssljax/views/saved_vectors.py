"""The view of a photo that a network has embedded already."""

import dataclasses

from jax import Array

from ssljax.types import Batch, UserError


@dataclasses.dataclass(frozen=True)
class SavedVectors:
    """One view, the vector that `SavedEmbeddings` has of a photo: what is trained on it takes seconds instead of hours.

    Nothing is augmented, and only photos with a vector can be embedded: new ones need the network that made the
    vectors, and then this one.
    """

    def __call__(self, rng: Array, batch: Batch) -> Batch:
        """The batch with `views`, one of f32[B, D]; raises UserError if the data has no vectors."""
        return self.evaluation(batch)

    def evaluation(self, batch: Batch) -> Batch:
        """The same."""
        if "vectors" not in batch:
            raise UserError("views=SavedVectors() reads vectors, and there are none: set data=SavedEmbeddings(...)")
        return batch | {"views": (batch["vectors"],)}
