"""ProxyNCA (Movshovitz-Attias et al. 2017, arXiv 1703.07464): an item is nearest to its class's proxy."""

import dataclasses

from ssljax.losses import proxy_nca
from ssljax.methods.base.supervised import AgainstClasses
from ssljax.types import Array, Progress


@dataclasses.dataclass(frozen=True)
class ProxyNCA(AgainstClasses):
    """Proxy-NCA, over all proxies, the own one among them. The paper's proxies learn 100 times as fast."""

    def against(self, vectors: Array, z: Array, labels: Array, progress: Progress) -> Array:
        """Algorithm 1."""
        return proxy_nca(z, vectors, labels)
