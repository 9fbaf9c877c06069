"""MultiSimilarity (Wang et al. 2019, arXiv 1904.06627): pairs count by their similarity and by that of others."""

import dataclasses

from ssljax.losses import References, multi_similarity
from ssljax.methods.base.supervised import WithMemory
from ssljax.types import Array, Aux, Batch, Params, Progress, UserError


@dataclasses.dataclass(frozen=True)
class MultiSimilarity(WithMemory):
    """The multi-similarity loss over all pairs, without the paper's mining."""

    alpha: float = 2.0
    """How much the least similar positives count above the others."""
    beta: float = 50.0
    """How much the most similar negatives count above the others."""
    base: float = 0.5
    """The cosine on whose right side pairs should be."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if min(self.alpha, self.beta) <= 0 or not -1 <= self.base <= 1:
            raise UserError(
                f"method.alpha={self.alpha} and method.beta={self.beta} must be above 0, and "
                f"method.base={self.base} a cosine, in [-1, 1]"
            )
        return super().init(rng, batch)

    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """Equation 15."""
        return multi_similarity(z, labels, alpha=self.alpha, beta=self.beta, base=self.base, references=references)
