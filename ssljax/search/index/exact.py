"""The exact index: a query is compared with every item, on whatever devices jax has, on every platform."""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ssljax.evaluation.nearest import top_k
from ssljax.search.index.base import Ids, Index, Metric
from ssljax.types import Array, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class Exact:
    """Compares a query with every item, in float32: exact, and on every platform."""

    metric: Metric = "cosine"
    """cosine, dot product, or squared distance (l2)."""
    devices: int = 1
    """How many devices the items are spread over."""
    device_mib: int | None = None
    """Memory of a device that the vectors may take. If they need more, they stay in the host's memory, and each search
    sends them to the devices in parts of this size. No limit by default."""

    def __post_init__(self):
        check_fields(self, type(self).__name__)
        for name in ("devices", "device_mib"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"Exact.{name}={getattr(self, name)} must be at least 1")

    def build(self, ids: Ids, vectors: Array | np.ndarray) -> Index:
        """See `Builder`; also raises UserError if there are fewer devices."""
        return Index.of(self, ids, vectors)

    def structure(self, vectors: np.ndarray) -> "Parts":
        """See `Builder`."""
        devices = jax.local_devices()[: self.devices]
        if len(devices) < self.devices:
            raise UserError(f"Exact.devices={self.devices}: jax has {len(devices)} here")
        # |q - x|² = |q|² - 2 (qx - |x|²/2): with one more dimension, the nearest has the largest product. About the
        # mean of the items, which changes no distance, the products are small and round less.
        center = vectors.mean(axis=0, dtype=np.float64).astype(np.float32) if self.metric == "l2" else None
        if center is not None:
            x = vectors - center
            vectors = np.concatenate([x, -np.einsum("nd,nd->n", x, x)[:, None] / 2], axis=1)
        rows = -(-len(vectors) // len(devices))
        room = None if self.device_mib is None else self.device_mib * 2**20 // vectors[0].nbytes
        resident = room is None or rows <= room
        if room is not None and not resident:
            rows = max(1, room)
        parts: list[Any] = [vectors[start : start + rows] for start in range(0, len(vectors), rows)]
        if resident:
            parts = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=False)]
        return Parts(parts, devices, center)

    def open(self, folder: Path, vectors: np.ndarray) -> "Parts":
        """See `Builder`: builds the structure again."""
        return self.structure(vectors)


class Parts:
    """The structure of `Exact`: parts of the items, in order, on a device each or on the host."""

    def __init__(self, parts: Sequence[Array | np.ndarray], devices: Sequence[Any], center: np.ndarray | None):
        self._parts, self._devices, self._center = parts, devices, center

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Structure`; of equal scores the lower row comes first."""
        if self._center is not None:
            queries = np.pad(queries - self._center, ((0, 0), (0, 1)), constant_values=1)
        number = min(len(self._devices), len(self._parts))
        of_device = functools.partial(self._of_device, queries, k, number)
        if number == 1:
            found = [of_device(0)]
        else:  # a thread each, as it waits for its device
            with ThreadPoolExecutor(number) as pool:
                found = list(pool.map(of_device, range(number)))
        best = sorted((part for parts in found for part in parts), key=lambda part: part[0])
        if len(best) == 1:
            return best[0][1:]
        rows, scores = (np.concatenate(x, axis=1) for x in zip(*(part[1:] for part in best), strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _of_device(
        self, queries: np.ndarray, k: int, number: int, device: int
    ) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(first row, rows, scores) of every `number`-th part, one after the other: two would not fit."""
        found = []
        for part in range(device, len(self._parts), number):
            first = part * len(self._parts[0])
            vectors = jax.device_put(self._parts[part], self._devices[device])
            rows, scores = top_k(queries, vectors, min(k, len(vectors)))
            found.append((first, rows + first, scores))
        return found

    def at(self, builder: Exact) -> "Parts":
        """See `Structure`: there is no effort to set."""
        return self

    def save(self, folder: Path) -> None:
        """See `Structure`: there is nothing to save."""
