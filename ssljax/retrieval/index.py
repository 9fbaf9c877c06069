"""Indexes: the nearest items of a catalogue by cosine similarity, under the items' own ids.

    index = ScaNN().build(ids, vectors)
    ids, scores = index.search(queries, k=10)
    index.save("index"); index = open_index("index")

`Exact` and `ScaNN` are settings; what they build is searched and saved. ScaNN ends the process or returns wrong ids on
bad input, so everything is checked before it is called, and ids are kept here and not by ScaNN.
"""

import dataclasses
import importlib.util
import json
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import jax
import numpy as np

from ssljax.data.items import text
from ssljax.files import open_folder, save_folder
from ssljax.retrieval.topk import top_k
from ssljax.retrieval.vectors import checked, normalise
from ssljax.types import Array, UserError

IDS = "ids.json"
VECTORS = "vectors.npy"
CODES = 16  # of a block of dimensions in quantised form
ScannSearcher = Any


class Index(Protocol):
    """Items by id and vector, to be searched."""

    def search(self, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest items of each query.

        Args:
          queries: f32[Q, D], of any length above 0; other real types are cast.
          k: how many, at least 1.

        Returns:
          ids object[Q, K] of str and their cosines f32[Q, K], best first, with K = min(k, items): never any padding.

        Raises:
          UserError: queries are not finite, or of the wrong shape, type or dimension; or k is not a positive integer.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes a folder that may be moved; an index that is there is replaced in one step.

        Raises UserError if other files are there, OSError if writing fails; the old index is whole then.
        """
        ...

    def __len__(self) -> int:
        """The number of items."""
        ...

    @property
    def stats(self) -> dict[str, Any]:
        """Kind, items, dimensions and settings, as JSON."""
        ...


class Builder(Protocol):
    """The settings of a kind of index."""

    def build(self, ids: Sequence[str], vectors: Array) -> Index:
        """An index of at least one item, with unique ids that are not blank, and vectors [n, D] of any real type.

        Raises UserError if they are not so, or a vector is not finite.
        """
        ...


def open_index(folder: Path) -> Index:
    """The index that was saved in `folder`; raises UserError if it is not one, or not as it was saved."""
    facts, data = open_folder(folder)
    kinds = {kind.__name__: kind for kind in (ExactIndex, ScaNNIndex)}
    if facts["kind"] not in kinds:
        raise UserError(
            f"{folder} holds an index of kind {facts['kind']!r}: this version of ssljax reads {', '.join(kinds)}"
        )
    return kinds[facts["kind"]]._open(facts, data)


@dataclasses.dataclass(frozen=True)
class Exact:
    """Compares a query with every item, on the device that jax has: exact, and on every platform."""

    def build(self, ids: Sequence[str], vectors: Array) -> "ExactIndex":
        """See `Builder`."""
        ids, vectors = _checked_items(ids, vectors)
        return ExactIndex(ids, normalise(vectors))


class ExactIndex:
    """What `Exact` builds."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray):
        self._ids, self._vectors = ids, jax.device_put(vectors)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def stats(self) -> dict[str, Any]:
        """See `Index`."""
        return {"kind": type(self).__name__, "items": len(self), "dimensions": self._vectors.shape[1]}

    def search(self, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`; of equal scores the item that was given first to `build` comes first."""
        queries, k = _checked_queries(queries, k, self._vectors.shape[1], len(self))
        rows, scores = top_k(normalise(queries), self._vectors, k)
        return self._ids[rows], scores

    def save(self, folder: Path) -> None:
        """See `Index`."""

        def write(data: Path) -> None:
            _write_ids(data, self._ids)
            np.save(data / VECTORS, np.asarray(self._vectors), allow_pickle=False)

        save_folder(folder, self.stats, write)

    @classmethod
    def _open(cls, facts: dict[str, Any], data: Path) -> "ExactIndex":
        return cls(_read_ids(data), np.load(data / VECTORS, allow_pickle=False))


@dataclasses.dataclass(frozen=True)
class ScaNN:
    """Google's ScaNN, on Linux: below 20,000 items it compares with all, below 100,000 with all in quantised form, and
    above with those in the nearest leaves of a tree. Fields that are None are chosen so, by the number of items."""

    leaves: int | None = None
    """Leaves of the tree; about the square root of the number of items if there are 100,000."""
    leaves_to_search: int | None = None
    """The more, the better the recall and the slower the search; a tenth of the leaves."""
    reorder: int | None = None
    """How many of the best in quantised form are compared again exactly; 200."""

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value is not None and value < 1:
                raise UserError(f"ScaNN.{name}={value} must be at least 1, or None to choose it by the number of items")

    def build(self, ids: Sequence[str], vectors: Array) -> "ScaNNIndex":
        """See `Builder`; raises UserError too where there is no ScaNN, or there are more leaves than items."""
        scann = _scann()
        ids, vectors = _checked_items(ids, vectors)
        settings = self.chosen(len(ids))
        builder = scann.builder(normalise(vectors), 10, "dot_product")
        if settings.leaves:
            builder.tree(settings.leaves, settings.leaves_to_search)
        if settings.reorder:
            # two dimensions a block and an anisotropic threshold of 0.2 are what ScaNN's authors recommend
            builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(settings.reorder)
        else:
            builder.score_brute_force()
        return ScaNNIndex(ids, builder.build(), vectors.shape[1], settings)

    def chosen(self, items: int) -> "ScaNN":
        """The settings for so many items, None meaning "without": no tree, or no quantisation."""
        if items < CODES:  # too few to quantise, whatever is asked for
            return ScaNN()
        leaves = self.leaves or (round(math.sqrt(items)) if items >= 100_000 else None)
        reorder = self.reorder or (200 if leaves or items >= 20_000 else None)
        if not leaves:
            return ScaNN(reorder=reorder)
        if leaves > items:
            raise UserError(
                f"ScaNN.leaves={leaves} is more than the {items} items: try {max(1, round(math.sqrt(items)))}"
            )
        return ScaNN(leaves, min(self.leaves_to_search or math.ceil(leaves / 10), leaves), reorder)


class ScaNNIndex:
    """What `ScaNN` builds."""

    def __init__(self, ids: np.ndarray, searcher: ScannSearcher, dim: int, settings: ScaNN):
        self._ids, self._searcher, self._dim, self._settings = ids, searcher, dim, settings

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def stats(self) -> dict[str, Any]:
        """See `Index`."""
        facts = {"kind": type(self).__name__, "items": len(self), "dimensions": self._dim}
        return facts | dataclasses.asdict(self._settings)

    def search(self, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index`; nearly exact if there are more than 20,000 items, exact below."""
        queries, k = _checked_queries(queries, k, self._dim, len(self))
        if not len(queries):  # ScaNN refuses none
            return np.empty((0, k), object), np.empty((0, k), np.float32)
        queries = normalise(queries)
        rows, scores = self._search(queries, k, self._settings.leaves_to_search)
        short = np.flatnonzero(np.isnan(scores[:, -1]))
        if len(short):  # ScaNN pads with id 0 and NaN if the leaves searched hold fewer than k items
            rows[short], scores[short] = self._search(queries[short], k, self._settings.leaves)
        return self._ids[rows], scores

    def _search(self, queries: np.ndarray, k: int, leaves: int | None) -> tuple[np.ndarray, np.ndarray]:
        depth = max(k, self._settings.reorder or 0)  # fewer than k would come back otherwise
        return self._searcher.search_batched_parallel(queries, k, depth, leaves)

    def save(self, folder: Path) -> None:
        """See `Index`."""

        def write(data: Path) -> None:
            _write_ids(data, self._ids)
            self._searcher.serialize(str(data), relative_path=True)

        save_folder(folder, self.stats, write)

    @classmethod
    def _open(cls, facts: dict[str, Any], data: Path) -> "ScaNNIndex":
        settings = ScaNN(**{field.name: facts[field.name] for field in dataclasses.fields(ScaNN)})
        return cls(_read_ids(data), _scann().load_searcher(str(data)), facts["dimensions"], settings)


def _scann() -> ModuleType:
    try:
        from scann import scann_ops_pybind
    except ImportError:
        raise UserError(
            "ScaNN is not installed here (it exists for Linux only): use the index Exact() instead"
        ) from None
    return scann_ops_pybind


def _checked_items(ids: Sequence[str], vectors: Array) -> tuple[np.ndarray, np.ndarray]:
    """object[n] of str and f32[n, D]; see `Builder.build`."""
    vectors = checked(vectors, "vectors")
    if len(ids) != len(vectors):
        raise UserError(f"there are {len(ids)} ids and {len(vectors)} vectors: an index needs one for each item")
    if not len(ids):
        raise UserError("there are no items: an index needs at least one")
    seen = set()
    for i in ids:
        if not isinstance(i, str) or not i:
            raise UserError(f"id {i!r} cannot name an item: ids are text and not blank")
        if i in seen:
            raise UserError(f"id {str(i)!r} comes more than once: every item needs an id of its own")
        seen.add(i)
    return text(str(i) for i in ids), vectors


def _checked_queries(queries: Array, k: int, dim: int, items: int) -> tuple[np.ndarray, int]:
    """f32[Q, D] and the number of items that will be found; see `Index.search`."""
    try:
        k = operator.index(k)
    except TypeError:
        raise UserError(f"k={k!r} must be an integer") from None
    if k < 1:
        raise UserError(f"k={k} must be at least 1")
    return checked(queries, "queries", dim), min(k, items)


def _write_ids(data: Path, ids: np.ndarray) -> None:
    (data / IDS).write_text(json.dumps(list(ids)), encoding="ascii")


def _read_ids(data: Path) -> np.ndarray:
    return text(json.loads((data / IDS).read_text(encoding="ascii")))


def default_index() -> Builder:
    """ScaNN where its package is installed (Linux), and else Exact."""
    return ScaNN() if importlib.util.find_spec("scann") else Exact()
