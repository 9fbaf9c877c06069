"""ProxyAnchor (Kim et al. 2020, arXiv 2003.13911): each class's proxy against all items of the batch."""

import dataclasses

from ssljax.losses import proxy_anchor
from ssljax.methods.base.supervised import AgainstClasses
from ssljax.types import Array, Aux, Batch, Params, Progress, UserError


@dataclasses.dataclass(frozen=True)
class ProxyAnchor(AgainstClasses):
    """Proxy-Anchor. The paper's proxies learn 100 times as fast."""

    scale: float = 32.0
    """How much the items count that are furthest from where they should be."""
    margin: float = 0.1
    """Cosine above which items are near enough to their proxy, and below minus which far enough from others."""

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        """See `Method.init`."""
        if self.scale <= 0 or not 0 <= self.margin < 1:
            raise UserError(
                f"method.scale={self.scale} must be above 0 and method.margin={self.margin} a cosine, in [0, 1)"
            )
        return super().init(rng, batch)

    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """Equation 4."""
        return proxy_anchor(z, vectors, labels, scale=self.scale, margin=self.margin)
