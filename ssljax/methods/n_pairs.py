"""NPairs (Sohn 2016): of each class in the batch an anchor finds its positive among those of all classes."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from ssljax.losses import l2_normalise, n_pairs
from ssljax.methods.base.supervised import Supervised, SupervisedAux
from ssljax.types import Array, Aux, Batch, Metrics, Params, Progress, UserError


@dataclasses.dataclass(frozen=True)
class NPairs(Supervised):
    """The multi-class N-pair loss, of two embeddings a class: for batches of many classes x 2 items."""

    norm_weight: float = 0.02
    """Weight of the mean squared norm, which the paper adds as its inner products are of vectors of any length."""
    normalise: bool = False
    """Compare unit vectors times `scale` instead; the norms then cost nothing."""
    scale: float = 16.0
    """Factor on the cosines of unit vectors."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if self.norm_weight < 0 or self.scale <= 0:
            raise UserError(
                f"method.norm_weight={self.norm_weight} must be at least 0 and method.scale={self.scale} above 0"
            )
        return super().init(rng, batch)

    def rows(self, projections: Sequence[Array], labels: Array) -> tuple[Array, Array]:
        """View by view: the first two rows of a class are then of two items, if it has two."""
        return jnp.concatenate(projections), jnp.tile(labels, len(projections))

    def compare(
        self, params: Params, aux: SupervisedAux, z: Array, labels: Array, progress: Progress
    ) -> tuple[Array, SupervisedAux, Metrics]:
        """Section 3.2.2, with its penalty."""
        if self.normalise:
            return n_pairs(l2_normalise(z) * self.scale**0.5, labels), aux, {}
        known = labels >= 0
        norms = jnp.sum(jnp.where(known, jnp.sum(z**2, axis=1), 0)) / jnp.maximum(jnp.sum(known), 1)
        return n_pairs(z, labels) + self.norm_weight * norms, aux, {"squared_norm": norms}
