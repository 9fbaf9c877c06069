"""Photos: every photo once an epoch."""

import dataclasses

import numpy as np

from ssljax.data.items import Items
from ssljax.data.samplers.base import Batches


@dataclasses.dataclass(frozen=True)
class Photos:
    """Every photo once an epoch, in a new order each epoch."""

    def over(self, items: Items, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """See `Sampler.over`."""
        n = len(items)
        return Batches(_alone, n, "photos", {"photos": n}, batch_size=batch_size, seed=seed, shard=shard)


def _alone(photos: np.ndarray, batch: int) -> np.ndarray:
    """i64[b, 1]: each photo is an item of its own."""
    return photos[:, None].copy()  # spare ones are written over bad ones, which must not change the order
