"""Meta's FAISS, for comparison, if its package `faiss-cpu` is installed."""

import dataclasses
import math
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from ssljax.data.atomic_files import ascii_name
from ssljax.search.index.base import Ids, Index, Metric
from ssljax.types import Array, UserError, check_fields

FILE = "faiss.index"
LINKS = 16  # of an HNSW node
REFINED = 20  # times k are compared again exactly after IVF-PQ


@dataclasses.dataclass(frozen=True)
class Faiss:
    """An index of FAISS: all items one by one, a graph (HNSW), or lists of quantised items (IVF-PQ, 4 bits for two
    dimensions, with the best compared again exactly)."""

    metric: Metric = "cosine"
    """cosine, dot product, or squared distance (l2)."""
    method: Literal["flat", "hnsw", "ivfpq"] = "hnsw"
    """How it is searched."""
    effort: int = 64
    """How many nodes of the graph a search keeps (efSearch), or how many lists it searches (nprobe)."""

    def __post_init__(self):
        check_fields(self, type(self).__name__)
        if self.effort < 1:
            raise UserError(f"Faiss.effort={self.effort} must be at least 1")

    def build(self, ids: Ids, vectors: Array | np.ndarray) -> Index:
        """See `Builder`; also raises UserError if FAISS is not installed."""
        _faiss()
        return Index.of(self, ids, vectors)

    def structure(self, vectors: np.ndarray) -> "FaissSearcher":
        """See `Builder`; fewer than 1,000 items are too few to train on, and are all compared."""
        faiss, (items, dim) = _faiss(), vectors.shape
        blocks = dim // 2 if dim % 2 == 0 else dim
        lists = max(1, round(math.sqrt(items)))
        words = {"flat": "Flat", "hnsw": f"HNSW{LINKS},Flat", "ivfpq": f"IVF{lists},PQ{blocks}x4fs,RFlat"}
        measure = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(dim, words[self.method if items >= 1000 else "flat"], measure)
        index.train(vectors)
        index.add(vectors)
        return FaissSearcher(index, vectors, self)

    def open(self, folder: Path, vectors: np.ndarray) -> "FaissSearcher":
        """See `Builder`."""
        with ascii_name(folder) as name:
            return FaissSearcher(_faiss().read_index(f"{name}/{FILE}"), vectors, self)


class FaissSearcher:
    """The structure of `Faiss`."""

    def __init__(self, index: Any, vectors: np.ndarray, settings: Faiss):
        self._index, self._vectors, self._settings = index, vectors, settings

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Structure`."""
        scores, rows = self._index.search(queries, k, params=self._effort(k))
        short = np.flatnonzero(rows[:, -1] < 0)
        if len(short):  # the graph or the lists led to fewer than k: compare these queries with all items
            scores[short], rows[short] = _faiss().knn(queries[short], self._vectors, k, metric=self._index.metric_type)
        return rows, scores

    def _effort(self, k: int) -> Any:
        faiss, effort = _faiss(), self._settings.effort
        if isinstance(self._index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=max(effort, k))
        if isinstance(self._index, faiss.IndexRefine):
            lists = faiss.SearchParametersIVF(nprobe=effort)
            return faiss.IndexRefineSearchParameters(k_factor=REFINED, base_index_params=lists)
        return None

    def at(self, builder: Faiss) -> "FaissSearcher":
        """See `Structure`: another effort."""
        return FaissSearcher(self._index, self._vectors, builder)

    def save(self, folder: Path) -> None:
        """See `Structure`."""
        with ascii_name(folder) as name:
            _faiss().write_index(self._index, f"{name}/{FILE}")


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise UserError("FAISS is not installed here: pip install faiss-cpu, or use ScaNN() or Exact()") from None
    return faiss
