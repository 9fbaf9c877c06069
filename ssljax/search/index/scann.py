"""Google's ScaNN (Guo et al. 2020, "Accelerating Large-Scale Inference with Anisotropic Vector Quantization").

Given NaN, a wrong shape or a damaged file, it ends the process or returns wrong ids, so it sees only what `base` has
checked, and never an update: `base` explains how items are added.
"""

import ctypes
import dataclasses
import functools
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ssljax.data.atomic_files import ascii_name
from ssljax.search.index.base import Ids, Index, Metric
from ssljax.types import Array, UserError, check_fields

CODES = 16  # of a block of dimensions in quantised form
SOAR = 1.5  # lambda of SOAR: what its authors recommend
FEW = 16  # queries that are not worth waking other threads for
ScannSearcher = Any


@dataclasses.dataclass(frozen=True)
class ScaNN:
    """Google's ScaNN, on Linux. None is chosen by the number of items: below 20,000 a query is compared with all
    items, below 100,000 with all in quantised form, and above with those in the nearest leaves of a tree."""

    metric: Metric = "cosine"
    """cosine, dot product, or squared distance (l2)."""
    leaves: int | None = None
    """Leaves of the tree; from 100,000 items on about the square root of their number by default. 1 is no tree."""
    leaves_to_search: int | None = None
    """More leaves find more and take longer; by default a tenth of the leaves."""
    reorder: int | None = None
    """How many of the best in quantised form are compared again exactly; 200 by default."""
    soar: bool = False
    """Put each item into two leaves (Sun et al. 2023, "SOAR"): for a recall near 1, for cosine and dot product."""
    brute: bool = False
    """Compare with all items, however many."""

    def __post_init__(self):
        check_fields(self, type(self).__name__)
        for name in ("leaves", "leaves_to_search", "reorder"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"ScaNN.{name}={value} must be at least 1, or None to choose it by the number of items")
        if self.soar and self.metric == "l2":
            raise UserError("ScaNN.soar=True needs the metric 'cosine' or 'dot', not 'l2'")

    def build(self, ids: Ids, vectors: Array | np.ndarray) -> Index:
        """See `Builder`; also raises UserError if ScaNN is not installed, or there are more leaves than items."""
        _scann()  # also if there are no items yet
        if CODES <= len(ids) < (self.leaves or 0):
            raise UserError(
                f"ScaNN.leaves={self.leaves} is more than the {len(ids)} items: try {round(math.sqrt(len(ids)))}"
            )
        return Index.of(self, ids, vectors)

    def structure(self, vectors: np.ndarray) -> "Searcher":
        """See `Builder`."""
        settings = self.chosen(len(vectors))
        builder = _scann().builder(vectors, 10, "squared_l2" if self.metric == "l2" else "dot_product")
        if settings.leaves:
            soar = {"soar_lambda": SOAR, "overretrieve_factor": 2.0} if settings.soar else {}
            builder.tree(settings.leaves, settings.leaves_to_search, **soar)
        if settings.reorder:
            # two dimensions a block and an anisotropic threshold of 0.2 are what ScaNN's authors recommend
            threshold = math.nan if self.metric == "l2" else 0.2
            builder.score_ah(2, anisotropic_quantization_threshold=threshold).reorder(settings.reorder)
        else:
            builder.score_brute_force()
        return Searcher(builder.build(), len(vectors), settings)

    def open(self, folder: Path, vectors: np.ndarray) -> "Searcher":
        """See `Builder`."""
        with ascii_name(folder) as name:
            return Searcher(_scann().load_searcher(name), len(vectors), self.chosen(len(vectors)))

    def chosen(self, items: int) -> "ScaNN":
        """The settings for this many items, where None means "without": no tree, or no quantisation."""
        plain = ScaNN(self.metric)
        if items < CODES or self.brute:  # too few to quantise, whatever the settings
            return plain
        leaves = self.leaves or (round(math.sqrt(items)) if items >= 100_000 else None)
        if leaves and leaves > items:  # of an index that has shrunk since it was built
            leaves = round(math.sqrt(items))
        reorder = self.reorder or (200 if leaves or items >= 20_000 else None)
        if leaves in (None, 1):
            return dataclasses.replace(plain, reorder=reorder)
        searched = min(self.leaves_to_search or math.ceil(leaves / 10), leaves)
        return ScaNN(self.metric, leaves, searched, reorder, self.soar)


class Searcher:
    """The structure of `ScaNN`."""

    def __init__(self, searcher: ScannSearcher, items: int, settings: ScaNN):
        self._searcher, self._items, self._settings = searcher, items, settings

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Structure`."""
        rows, scores = self._search(queries, k, self._settings.leaves_to_search)
        short = np.flatnonzero(np.isnan(scores[:, -1]))
        if len(short):  # ScaNN pads with id 0 and NaN if the leaves searched hold fewer than k items
            rows[short], scores[short] = self._search(queries[short], k, self._settings.leaves)
        return rows, scores

    def _search(self, queries: np.ndarray, k: int, leaves: int | None) -> tuple[np.ndarray, np.ndarray]:
        depth = max(k, self._settings.reorder or 0)  # fewer than k would come back otherwise
        if len(queries) < FEW:
            return self._searcher.search_batched(queries, k, depth, leaves)
        return self._searcher.search_batched_parallel(queries, k, depth, leaves)

    def at(self, builder: ScaNN) -> "Searcher":
        """See `Structure`: other leaves to search and another depth of reordering."""
        return Searcher(self._searcher, self._items, builder.chosen(self._items))

    def save(self, folder: Path) -> None:
        """See `Structure`."""
        with ascii_name(folder) as name:
            self._searcher.serialize(name, relative_path=True)


def _scann() -> ModuleType:
    try:
        from scann import scann_ops_pybind
    except ImportError:
        raise UserError(
            "ScaNN is not installed here (it exists for Linux only): use the index Exact() instead"
        ) from None
    _silence(Path(str(scann_ops_pybind.scann_pybind.__file__)))
    return scann_ops_pybind


@functools.cache
def _silence(library: Path) -> None:
    """Lets ScaNN's C++ write only errors to stderr, for which it has no setting; exceptions are raised all the same."""
    name = re.search(rb"_ZN4absl\d+lts_\d+SetMinLogLevelENS0_18LogSeverityAtLeastE", library.read_bytes())
    if name is not None:  # otherwise another Abseil, which goes on writing
        getattr(ctypes.CDLL(str(library)), name[0].decode())(2)
