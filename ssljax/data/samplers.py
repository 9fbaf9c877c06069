"""Which photos make up which batch: pure functions of the batch's number, so that any batch can be asked for."""

import functools
from collections.abc import Iterator

import numpy as np

from ssljax.types import UserError


class Shuffled:
    """Every photo once an epoch, in a new order each epoch; a remainder smaller than a batch is left out.

    Args:
        n: photos.
        batch_size: photos a batch, over all processes.
        seed: decides the orders.
        shard: (index, count) of this process; the parts of all processes, in turn, are the whole batch.

    Raises:
        UserError: if there are fewer photos than a batch takes, or the processes cannot share it equally.
    """

    def __init__(self, n: int, *, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)):
        if batch_size > n:
            raise UserError(f"batch_size={batch_size} is larger than the train split's {n} photos")
        if batch_size % shard[1]:
            raise UserError(f"batch_size={batch_size} is not a multiple of the number of processes, {shard[1]}")
        self.n, self.batch_size, self.seed, self.shard = n, batch_size, seed, shard
        self.batches_per_epoch = n // batch_size

    @property
    def identity(self) -> dict[str, int]:
        """What batches depend on, beside the photos themselves."""
        return {"photos": self.n, "batch_size": self.batch_size, "seed": self.seed}

    def rows(self, batch: int) -> np.ndarray:
        """i64[batch_size / count], the process's photos of a batch, counted over all epochs; all different."""
        order, start = self._place(batch)
        index, count = self.shard
        return np.split(order[start : start + self.batch_size], count)[index].copy()

    def spares(self, batch: int) -> Iterator[int]:
        """The photos that are in no process's batch: those after it in the epoch's order, and on from its beginning.

        No two processes have the same.
        """
        order, start = self._place(batch)
        index, count = self.shard
        return (int(order[(start + k) % self.n]) for k in range(self.batch_size + index, self.n, count))

    def _place(self, batch: int) -> tuple[np.ndarray, int]:
        epoch, batch = divmod(batch, self.batches_per_epoch)
        return _permutation(self.n, self.seed, epoch), batch * self.batch_size


@functools.lru_cache(maxsize=2)  # reading ahead straddles two epochs
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    # not grain's shuffle, which takes seed + epoch: seed 1 would repeat seed 0, an epoch ahead; and 10 ms a batch
    return np.random.default_rng((seed % 2**64, epoch)).permutation(n)
