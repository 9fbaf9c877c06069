"""What all indexes share: ids, additions and removals, and searches that see the state before a change or after it.

Most items are in a `Structure`, which is quick to search and never changed. Items added later are in the tail, and are
compared one by one; removed items are only marked. So a change is quick, cannot fail halfway, and takes effect at once,
however different new items are. When the tail or the marks have grown, a new structure is built in the background, and
replaces the old one in one step.
"""

import collections
import dataclasses
import json
import numbers
import operator
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ssljax.data.atomic_files import locked, open_folder, read_as, save_folder
from ssljax.evaluation.vectors import checked, normalise
from ssljax.search.index.state import Id, Ids, Metric, Rows, State, Structure, objects
from ssljax.types import Array, UserError

SCHEMA = 2
IDS, VECTORS, REMOVED, TAIL = "ids.json", "vectors.npy", "removed.npy", "tail.npy"
LARGEST_ID = 2**128
LONGEST = 1e18  # of a vector, so that no dot product and no squared distance leaves float32


@runtime_checkable
class Builder(Protocol):
    """The settings of a kind of index: a frozen dataclass of values that JSON can hold."""

    if TYPE_CHECKING:  # see `types.Evaluator`

        @property
        def metric(self) -> Metric: ...

    def build(self, ids: Ids, vectors: Array | np.ndarray) -> "Index":
        """An index of items with unique ids, and vectors [n, D] of any real type; n may be 0.

        Raises UserError if they are not so, or a vector is not finite.
        """
        ...

    def structure(self, vectors: np.ndarray) -> Structure:
        """Of f32[n, D], checked, of unit length for the cosine; n at least 1."""
        ...

    def open(self, folder: Path, vectors: np.ndarray) -> Structure:
        """What `structure(vectors)` was and `Structure.save` wrote."""
        ...


class Index:
    """Items by id and vector, to be searched, added and removed; what `Exact`, `ScaNN` and `Faiss` build.

        index = ScaNN().build(ids, vectors)
        ids, scores = index.search(queries, k=10)
        index.add(["new"], vector[None]); index.remove(["old"])
        index.save("index"); index = open_index("index")

    An id is a text that is not blank, or an integer; "1" and 1 are two items. Any number of threads may search while
    one changes the index: each sees it before a change or after. Threads that change it take turns. A call that raises
    has changed nothing.
    """

    def __init__(self, builder: Builder, state: State):
        self._builder, self._state = builder, state
        self._row_of = state.row_numbers()
        self._changing = threading.Lock()  # held while state and row numbers are replaced
        self._building = threading.Lock()  # held while a structure is built
        self._failure: str | None = None

    @classmethod
    def of(cls, builder: Builder, ids: Ids, vectors: Array | np.ndarray) -> "Index":
        """See `Builder.build`."""
        ids, vectors = _paired(ids, vectors, builder.metric)
        structure = builder.structure(vectors) if len(ids) else None
        return cls(builder, State(structure, Rows.of(ids, vectors), Rows.of([], vectors[:0])))

    def __len__(self) -> int:
        return len(self._state)

    def __contains__(self, item: Id) -> bool:
        return isinstance(item, str | numbers.Integral) and not isinstance(item, bool) and item in self._row_of

    @property
    def ids(self) -> list[Id]:
        """The ids of all items, in no particular order."""
        with self._changing:
            return list(self._row_of)

    @property
    def builder(self) -> Builder:
        """The settings that the index was built with."""
        return self._builder

    @property
    def patience(self) -> int:
        """How many items may be added before the structure is built anew."""
        return self._state.patience

    def at(self, builder: Builder) -> "Index":
        """The same items in the same structure, searched with the effort of another builder of this kind.

        Changes of one of the two do not reach the other.
        """
        state = self._state
        tail = Rows.of(*state.tail.live())
        structure = state.structure and state.structure.at(builder)
        return Index(builder, dataclasses.replace(state, structure=structure, tail=tail))

    @property
    def stats(self) -> dict[str, Any]:
        """Kind, settings, items, dimensions, and how many items are in the tail or marked as removed."""
        state = self._state
        return {
            "kind": type(self._builder).__name__,
            "settings": dataclasses.asdict(self._builder),  # pyright: ignore[reportArgumentType] a dataclass
            "items": len(state),
            "dimensions": state.main.vectors.shape[1],
            "in_tail": len(state.tail) - state.tail.dead,
            "removed": state.main.dead + state.tail.dead,
            "drift": state.drift / max(len(state.main), 1),
            "rebuilding": self._building.locked(),
            "failure": self._failure,
        }

    def search(self, queries: Array | np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best items for each query.

        Args:
          queries: [Q, D] of any real type; for the cosine of any length above 0.
          k: how many, at least 1.

        Returns:
          ids object[Q, K] and scores f32[Q, K], best first, with K = min(k, items): there is no padding, whatever was
          removed, and an empty index gives K = 0. The score is the cosine or the dot product (more is better), or for
          l2 the squared distance (less is better). Of equal ones `Exact` gives the item first that was given first.

        Raises:
          UserError: queries are not finite, or of the wrong shape, type or dimension; or k is not a positive integer.
        """
        state, metric = self._state, self._builder.metric
        try:
            k = operator.index(k)
        except TypeError:
            raise UserError(f"k={k!r} must be an integer") from None
        if k < 1:
            raise UserError(f"k={k} must be at least 1")
        queries = _prepared(queries, metric, "queries", state.main.vectors.shape[1])
        k = min(k, len(state))
        if not (k and len(queries)):
            return np.empty((len(queries), k), object), np.empty((len(queries), k), np.float32)
        ids, scores = state.search(queries, k, metric)
        return ids, -scores if metric == "l2" else scores

    def vectors_of(self, ids: Ids) -> np.ndarray:
        """f32[n, D], as they are compared: of unit length if the metric is the cosine.

        Raises UserError if there is no such item.
        """
        ids = _checked_ids(ids, unique=False)
        with self._changing:
            state, rows = self._state, self._rows_of(ids)
        return state.vectors_of(rows)

    def add(self, ids: Ids, vectors: Array | np.ndarray, *, replace: bool = False) -> None:
        """Adds all items or none; the next search finds them.

        Args:
          ids: unique.
          vectors: [n, D] of any real type.
          replace: whether ids in the index get the new vector; otherwise they are refused.

        Raises:
          UserError: an id is in the index already, comes twice, or is neither text nor integer; or the vectors are not
            finite, or of the wrong shape, type or dimension.
        """
        ids, vectors = self._paired(ids, vectors)
        with self._changing:
            there = self._there(ids, replace)
            state = self._state.without(self._rows_of(there))
            first = len(state.main) + len(state.tail)
            state = dataclasses.replace(state, tail=state.tail.extended(ids, vectors))
            self._row_of.update(zip(ids, range(first, first + len(ids)), strict=True))
            self._state = state
        self._rebuild_if_due()

    def check_addable(self, ids: Ids, vectors: Array | np.ndarray, *, replace: bool = False) -> None:
        """Raises what `add` would raise."""
        self._there(self._paired(ids, vectors)[0], replace)

    def _paired(self, ids: Ids, vectors: Array | np.ndarray) -> tuple[list[Id], np.ndarray]:
        return _paired(ids, vectors, self._builder.metric, self._state.main.vectors.shape[1])

    def _there(self, ids: list[Id], replace: bool) -> list[Id]:
        """Which of them are in the index, as they may be with `replace` only."""
        there = [i for i in ids if i in self._row_of]
        if there and not replace:
            raise UserError(
                f"{len(there)} of {len(ids)} items are in the index already (such as {there[0]!r}): remove them, "
                "or add with replace=True"
            )
        return there

    def remove(self, ids: Ids) -> None:
        """Removes all items or none; raises UserError if one is not in the index or comes twice."""
        ids = _checked_ids(ids)
        with self._changing:
            state = self._state.without(self._rows_of(ids))
            for i in ids:
                del self._row_of[i]
            self._state = state
        self._rebuild_if_due()

    def rebalance(self) -> None:
        """Builds the structure anew from all items, and waits for it; searches and changes go on meanwhile.

        It happens by itself, in the background, once the tail of a structure of n items has more than
        max(1000, 10 sqrt(n)), or more than max(1000, n / 10) of them are removed.
        """
        self._failure = None
        self._rebuild(lambda state: state.drift > 0)

    def save(self, folder: Path) -> None:
        """Writes a folder that may be moved; an index that is there is replaced in one step.

        If two save to one folder at the same time, the later index stays. Raises UserError if the folder holds other
        files, OSError if writing fails; then the old index stays.
        """
        save_folder(folder, self.facts, self.write)

    @property
    def facts(self) -> dict[str, Any]:
        """What `read` needs to know, as JSON."""
        settings = dataclasses.asdict(self._builder)  # pyright: ignore[reportArgumentType] a dataclass
        return {"kind": type(self._builder).__name__, "settings": settings, "schema": SCHEMA}

    def write(self, data: Path) -> None:
        """Writes files into a folder, for `read`."""
        state = self._state
        tail_ids, tail = state.tail.live()
        words = {"main": list(state.main.ids), "tail": list(tail_ids)}
        (data / IDS).write_text(json.dumps(words), encoding="ascii")
        for name, values in ((VECTORS, state.main.vectors), (REMOVED, state.main.removed), (TAIL, tail)):
            np.save(data / name, values, allow_pickle=False)
        if state.structure is not None:
            state.structure.save(data)

    @classmethod
    def open(cls, folder: Path, kinds: dict[str, type]) -> "Index":
        """Opens what `save` wrote; see `open_index`."""
        with locked(folder, exclusive=False):  # a save would delete what is being read
            return cls.read(*open_folder(folder), kinds)

    @classmethod
    def read(cls, facts: dict[str, Any], data: Path, kinds: dict[str, type]) -> "Index":
        """Reads what `write` wrote; raises UserError if it is of another schema or kind, or invalid."""
        if facts.get("schema") != SCHEMA or not isinstance(facts.get("kind"), str) or facts["kind"] not in kinds:
            raise UserError(
                f"{data.parent} holds an index of kind {facts.get('kind')!r} and schema {facts.get('schema')}: this "
                f"version of ssljax reads {', '.join(kinds)} of schema {SCHEMA}; build the index anew"
            )
        with read_as("index", data.parent, "build the index anew"):
            builder = kinds[facts["kind"]](**facts["settings"])
            words = json.loads((data / IDS).read_text(encoding="ascii"))
            vectors, removed, tail = (np.load(data / name, allow_pickle=False) for name in (VECTORS, REMOVED, TAIL))
            main = Rows(objects(_checked_ids(words["main"])), checked(vectors, VECTORS), removed, int(removed.sum()))
            rest = Rows.of(_checked_ids(words["tail"]), checked(tail, TAIL, vectors.shape[1]))
            for rows in (main, rest):
                if not len(rows.ids) == len(rows.vectors) == len(rows.removed):
                    raise ValueError("ids and vectors differ in number")
            structure = builder.open(data, vectors) if len(vectors) else None
            return cls(builder, State(structure, main, rest))

    def _rows_of(self, ids: list[Id]) -> list[int]:
        """Row numbers, those of the tail after those of main."""
        unknown = [i for i in ids if i not in self._row_of]
        if unknown:
            raise UserError(f"{len(unknown)} of {len(ids)} items are not in the index, such as {unknown[0]!r}")
        return [self._row_of[i] for i in ids]

    def _rebuild_if_due(self) -> None:
        if self._state.is_due and self._failure is None and not self._building.locked():
            # not a daemon: Python must not end while ScaNN builds
            threading.Thread(target=self._rebuild_in_background, name="ssljax index rebuild").start()

    def _rebuild_in_background(self) -> None:
        try:
            while self._state.is_due:  # again, if much was added meanwhile
                self._rebuild(lambda state: state.is_due)
        except Exception as error:  # no memory, most likely: the index is right without, and `stats` tells
            self._failure = f"{type(error).__name__}: {error}"

    def _rebuild(self, due: Callable[[State], bool]) -> None:
        """Builds a structure of what there is at the beginning; what changes meanwhile is carried over."""
        with self._building:
            before = self._state
            if not due(before):
                return
            ids, vectors = before.live()
            structure = self._builder.structure(vectors) if len(ids) else None
            with self._changing:
                state = before.rebuilt(structure, Rows.of(ids, vectors), self._state)
                self._row_of = state.row_numbers()
                self._state = state


def _checked_ids(ids: Ids, *, unique: bool = True) -> list[Id]:
    """As str and int; raises UserError if one is neither, or blank, or, if it must not, comes twice."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise UserError(f"ids={ids!r} must be a list of ids")
    checked_ids: list[Id] = []
    for i in ids:
        if isinstance(i, str) and i:
            checked_ids.append(str(i))
        elif isinstance(i, numbers.Integral) and not isinstance(i, bool):
            if abs(int(i)) >= LARGEST_ID:
                raise UserError("an id is an integer of more than 128 bits: give it as text")
            checked_ids.append(int(i))
        else:
            raise UserError(f"id {i!r} must be an integer, or text that is not blank")
    if unique and len(set(checked_ids)) < len(checked_ids):
        twice = next(i for i, count in collections.Counter(checked_ids).items() if count > 1)
        raise UserError(f"id {twice!r} comes more than once: every item needs an id of its own")
    return checked_ids


def _paired(
    ids: Ids, vectors: Array | np.ndarray, metric: Metric, dim: int | None = None
) -> tuple[list[Id], np.ndarray]:
    """Ids and vectors, checked, of as many items."""
    ids, vectors = _checked_ids(ids), _prepared(vectors, metric, "vectors", dim)
    if len(ids) != len(vectors):
        raise UserError(f"there are {len(ids)} ids and {len(vectors)} vectors: an index needs one for each item")
    return ids, vectors


def _prepared(vectors: Array | np.ndarray, metric: Metric, field: str, dim: int | None = None) -> np.ndarray:
    """f32[n, D] as they are compared, another array than the caller's.

    Raises UserError for what `vectors.checked` refuses, and for vectors so long that their products leave float32.
    """
    x = checked(vectors, field, dim)
    if metric == "cosine":
        return normalise(x)
    with np.errstate(over="ignore"):
        long = np.flatnonzero(np.einsum("nd,nd->n", x, x) > LONGEST**2)
    if len(long):
        raise UserError(
            f"{field} are longer than {LONGEST:g} in {len(long)} of {len(x)} rows (the first is row {long[0]}): the "
            f"metric {metric!r} would leave float32; scale them"
        )
    return x.copy()
