"""Contrastive (Hadsell et al. 2006): a Siamese network, its pairs pulled together by label or pushed to a distance."""

import dataclasses

from ssljax.losses import References, contrastive_pairs
from ssljax.methods.base.supervised import WithMemory
from ssljax.types import Array, Aux, Batch, Params, Progress, UserError


@dataclasses.dataclass(frozen=True)
class Contrastive(WithMemory):
    """The Siamese baseline of same-item matching."""

    positive_margin: float = 0.0
    """Distance of unit vectors below which a pair of one label is near enough."""
    negative_margin: float = 0.5
    """Distance above which a pair of two labels is far enough; the largest there is is 2."""
    squared: bool = True
    """Square the hinges, as published; without it they are pytorch-metric-learning's."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if not 0 <= self.positive_margin < self.negative_margin <= 2:
            raise UserError(
                f"method.positive_margin={self.positive_margin} must be at least 0 and below "
                f"method.negative_margin={self.negative_margin}, which must be at most 2"
            )
        return super().init(rng, batch)

    def pairs(self, z: Array, labels: Array, *, progress: Progress, references: References | None = None) -> Array:
        """Equation 4."""
        return contrastive_pairs(
            z,
            labels,
            positive_margin=self.positive_margin,
            negative_margin=self.negative_margin,
            squared=self.squared,
            references=references,
        )
