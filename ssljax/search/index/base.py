"""What all indexes share: ids, additions and removals, and a search that sees the old state or the new, never a mix.

Most items lie in a `Structure`, which is quick to search and never changed. Items added later lie beside it, in the
tail, and are compared one by one; of removed ones only a mark is set. So a change is a moment's work, cannot fail
halfway, and is exact at once, however unlike the new items are to the old. When tail and marks have grown, a new
structure is built in the background from what there is, and takes the old one's place in one step.
"""

import collections
import dataclasses
import json
import numbers
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from ssljax.data.atomic_files import locked, open_folder, read_as, save_folder
from ssljax.evaluation.vectors import checked, normalise
from ssljax.types import Array, UserError

Id = str | int
Metric = Literal["cosine", "dot", "l2"]

SCHEMA = 2
IDS, VECTORS, REMOVED, TAIL = "ids.json", "vectors.npy", "removed.npy", "tail.npy"
LARGEST_ID = 2**128
LONGEST = 1e18  # of a vector, so that no dot product and no squared distance leaves float32
SCORES_AT_ONCE = 2**22  # of queries with the tail


class Structure(Protocol):
    """Vectors in a form that is quick to search. It is never changed, and any number of threads may search it."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the best vectors for each query.

        Args:
          queries: f32[Q, D], checked, of unit length for the cosine; Q at least 1.
          k: between 1 and the number of vectors.

        Returns:
          rows [Q, k] of integers, all different and none missing, and scores f32[Q, k], best (largest) first; where the
          metric is l2 the scores are not read.
        """
        ...

    def at(self, builder: "Builder") -> "Structure":
        """The same vectors, searched with the effort that another builder of this kind asks for."""
        ...

    def save(self, folder: Path) -> None:
        """Writes files into an empty folder, for `Builder.open`."""
        ...


@runtime_checkable
class Builder(Protocol):
    """The settings of a kind of index: a frozen dataclass of values that JSON can hold."""

    if TYPE_CHECKING:  # see `types.Evaluator`

        @property
        def metric(self) -> Metric: ...

    def build(self, ids: Sequence[Id], vectors: Array) -> "Index":
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


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Items in order; the arrays are never changed."""

    ids: np.ndarray
    """object[n] of Id"""
    vectors: np.ndarray
    """f32[n, D]"""
    removed: np.ndarray
    """bool[n]"""
    dead: int = 0
    """how many are removed"""
    room: tuple[np.ndarray, np.ndarray] | None = None
    """longer arrays that begin with ids and vectors; beyond their end only the newest state writes"""

    @classmethod
    def of(cls, ids: Sequence[Id], vectors: np.ndarray) -> "_Rows":
        return cls(_objects(ids), vectors, np.zeros(len(vectors), bool))

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, rows: list[int]) -> "_Rows":
        """With these marked as removed, which they must not be yet."""
        if not rows:
            return self
        removed = self.removed.copy()
        removed[rows] = True
        return dataclasses.replace(self, removed=removed, dead=self.dead + len(rows))

    def live(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and vectors of those that are not removed."""
        return (self.ids[~self.removed], self.vectors[~self.removed]) if self.dead else (self.ids, self.vectors)


@dataclasses.dataclass(frozen=True)
class _State:
    """All that a search reads. A change makes another one."""

    structure: Structure | None
    """of main; None if main is empty"""
    main: _Rows
    tail: _Rows

    def __len__(self) -> int:
        return len(self.main) - self.main.dead + len(self.tail) - self.tail.dead

    @property
    def drift(self) -> int:
        """Items that a new structure would hold and this one does not, or the reverse."""
        return len(self.tail) + self.main.dead

    def live(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and vectors of all items, in the order in which they were given."""
        return tuple(np.concatenate(parts) for parts in zip(self.main.live(), self.tail.live(), strict=True))


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

    def __init__(self, builder: Builder, state: _State):
        self._builder, self._state = builder, state
        self._row_of = _row_numbers(state)
        self._changing = threading.Lock()  # held while state and row numbers are replaced
        self._building = threading.Lock()  # held while a structure is built
        self._failure: str | None = None

    @classmethod
    def of(cls, builder: Builder, ids: Sequence[Id], vectors: Array) -> "Index":
        """See `Builder.build`."""
        ids, vectors = _paired(ids, vectors, builder.metric)
        structure = builder.structure(vectors) if len(ids) else None
        return cls(builder, _State(structure, _Rows.of(ids, vectors), _Rows.of([], vectors[:0])))

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
        return _longest_tail(len(self._state.main))

    def at(self, builder: Builder) -> "Index":
        """The same items in the same structure, searched with the effort that another builder of this kind asks for.

        Changes of one of the two do not reach the other.
        """
        state = self._state
        tail = _Rows.of(*state.tail.live())
        structure = state.structure and state.structure.at(builder)
        return Index(builder, dataclasses.replace(state, structure=structure, tail=tail))

    @property
    def stats(self) -> dict[str, Any]:
        """Kind, settings, items, dimensions, and how many items lie beside the structure or are marked as removed."""
        state = self._state
        return {
            "kind": type(self._builder).__name__,
            "settings": dataclasses.asdict(self._builder),
            "items": len(state),
            "dimensions": state.main.vectors.shape[1],
            "in_tail": len(state.tail) - state.tail.dead,
            "removed": state.main.dead + state.tail.dead,
            "drift": state.drift / max(len(state.main), 1),
            "rebuilding": self._building.locked(),
            "failure": self._failure,
        }

    def search(self, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
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
        rows, scores = _search_main(state, queries, min(k, len(state.main) - state.main.dead), metric)
        if len(state.tail) == state.tail.dead:
            ids = state.main.ids.take(rows)  # twice as quick as [rows]
        else:
            ids, scores = _with_tail(state, queries, k, rows, scores, metric)
        return ids, -scores if metric == "l2" else scores

    def vectors_of(self, ids: Sequence[Id]) -> np.ndarray:
        """f32[n, D], as they are compared: of unit length if the metric is the cosine.

        Raises UserError if there is no such item.
        """
        ids = _checked_ids(ids, unique=False)
        with self._changing:
            state, rows = self._state, self._rows_of(ids)
        main, x = len(state.main), np.empty((len(rows), state.main.vectors.shape[1]), np.float32)
        for position, row in enumerate(rows):
            x[position] = state.main.vectors[row] if row < main else state.tail.vectors[row - main]
        return x

    def add(self, ids: Sequence[Id], vectors: Array, *, replace: bool = False) -> None:
        """Adds items, all or none; the next search finds them.

        Args:
          ids: unique.
          vectors: [n, D] of any real type.
          replace: items that are there get the new vector; otherwise they are refused.

        Raises:
          UserError: an id is there already, comes twice, or is neither text nor integer; or the vectors are not finite,
            or of the wrong shape, type or dimension.
        """
        ids, vectors = self._paired(ids, vectors)
        with self._changing:
            there = self._there(ids, replace)
            state = self._without(there)
            first = len(state.main) + len(state.tail)
            state = dataclasses.replace(state, tail=_extended(state.tail, ids, vectors))
            self._row_of.update(zip(ids, range(first, first + len(ids)), strict=True))
            self._state = state
        self._rebuild_if_due()

    def check_addable(self, ids: Sequence[Id], vectors: Array, *, replace: bool = False) -> None:
        """Raises what `add` would raise."""
        self._there(self._paired(ids, vectors)[0], replace)

    def _paired(self, ids: Sequence[Id], vectors: Array) -> tuple[list[Id], np.ndarray]:
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

    def remove(self, ids: Sequence[Id]) -> None:
        """Removes items, all or none. Raises UserError if one is not there or comes twice."""
        ids = _checked_ids(ids)
        with self._changing:
            state = self._without(ids)
            for i in ids:
                del self._row_of[i]
            self._state = state
        self._rebuild_if_due()

    def rebalance(self) -> None:
        """Builds the structure anew from all items, and waits for it; searches and changes go on meanwhile.

        This happens by itself, in the background, once more than max(1000, 10 sqrt(n)) items lie beside a structure of
        n, or more than max(1000, n / 10) of its items are removed.
        """
        self._failure = None
        self._rebuild(lambda state: state.drift > 0)

    def save(self, folder: Path) -> None:
        """Writes a folder that may be moved; an index that is there is replaced in one step.

        Of two that save to one folder at a time, the later one's index stays. Raises UserError if other files are
        there, OSError if writing fails; the old index is whole then.
        """
        save_folder(folder, self.facts, self.write)

    @property
    def facts(self) -> dict[str, Any]:
        """What `read` needs to know, as JSON."""
        settings = dataclasses.asdict(self._builder)
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
        """What `save` wrote; see `open_index`."""
        with locked(folder, exclusive=False):  # a save would clear away what is being read
            return cls.read(*open_folder(folder), kinds)

    @classmethod
    def read(cls, facts: dict[str, Any], data: Path, kinds: dict[str, type]) -> "Index":
        """What `write` wrote, every byte of it checked; raises UserError if it is of another schema or kind."""
        if facts.get("schema") != SCHEMA or not isinstance(facts.get("kind"), str) or facts["kind"] not in kinds:
            raise UserError(
                f"{data.parent} holds an index of kind {facts.get('kind')!r} and schema {facts.get('schema')}: this "
                f"version of ssljax reads {', '.join(kinds)} of schema {SCHEMA}; build the index anew"
            )
        with read_as("index", data.parent, "build the index anew"):
            builder = kinds[facts["kind"]](**facts["settings"])
            words = json.loads((data / IDS).read_text(encoding="ascii"))
            vectors, removed, tail = (np.load(data / name, allow_pickle=False) for name in (VECTORS, REMOVED, TAIL))
            main = _Rows(_objects(_checked_ids(words["main"])), checked(vectors, VECTORS), removed, int(removed.sum()))
            rest = _Rows.of(_checked_ids(words["tail"]), checked(tail, TAIL, vectors.shape[1]))
            for rows in (main, rest):
                if not len(rows.ids) == len(rows.vectors) == len(rows.removed):
                    raise ValueError("ids and vectors differ in number")
            structure = builder.open(data, vectors) if len(vectors) else None
            return cls(builder, _State(structure, main, rest))

    def _rows_of(self, ids: list[Id]) -> list[int]:
        """Row numbers, those of the tail after those of main."""
        unknown = [i for i in ids if i not in self._row_of]
        if unknown:
            raise UserError(f"{len(unknown)} of {len(ids)} items are not in the index, such as {unknown[0]!r}")
        return [self._row_of[i] for i in ids]

    def _without(self, ids: list[Id]) -> _State:
        """The state with these items removed."""
        rows, main = self._rows_of(ids), len(self._state.main)
        return dataclasses.replace(
            self._state,
            main=self._state.main.without([row for row in rows if row < main]),
            tail=self._state.tail.without([row - main for row in rows if row >= main]),
        )

    def _rebuild_if_due(self) -> None:
        if _is_due(self._state) and self._failure is None and not self._building.locked():
            # no daemon: Python must not end while ScaNN builds
            threading.Thread(target=self._rebuild_in_background, name="ssljax index rebuild").start()

    def _rebuild_in_background(self) -> None:
        try:
            while _is_due(self._state):  # again, if much was added meanwhile
                self._rebuild(_is_due)
        except Exception as error:  # no memory, most likely: the index is right without, and `stats` says it
            self._failure = f"{type(error).__name__}: {error}"

    def _rebuild(self, due: Callable[[_State], bool]) -> None:
        """Another structure of what there is when it begins; what changes meanwhile is carried over."""
        with self._building:
            before = self._state
            if not due(before):
                return
            ids, vectors = before.live()
            structure = self._builder.structure(vectors) if len(ids) else None
            main = _Rows.of(ids, vectors)
            with self._changing:
                now, seen = self._state, len(before.tail)
                # rows of `main` that were removed since: their marks of now, at the places that were alive before
                marks = [(now.main.removed, before.main.removed), (now.tail.removed[:seen], before.tail.removed)]
                gone = np.flatnonzero(np.concatenate([after[~earlier] for after, earlier in marks]))
                added = ~now.tail.removed[seen:]
                tail = _Rows.of(now.tail.ids[seen:][added], now.tail.vectors[seen:][added])
                state = _State(structure, main.without(gone.tolist()), tail)
                self._row_of = _row_numbers(state)
                self._state = state


def _is_due(state: _State) -> bool:
    # a tenth removed costs a search little; each item of the tail costs it a comparison
    items = len(state.main)
    return len(state.tail) > _longest_tail(items) or state.main.dead > max(1000, items / 10)


def _longest_tail(items: int) -> int:
    return max(1000, round(10 * items**0.5))


def _search_main(state: _State, queries: np.ndarray, k: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Rows of main [Q, k] that are not removed, and their scores f32[Q, k], the larger the better."""
    if not k:
        return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    if not state.main.dead:
        rows, scores = state.structure.search(queries, k)
    else:
        rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        todo, wanted = np.arange(len(queries)), 2 * k
        while len(todo):  # more are asked for until enough are alive; a power of two, as XLA compiles for each number
            wanted = min(1 << (wanted - 1).bit_length(), len(state.main))
            found, found_scores = state.structure.search(queries[todo], wanted)
            alive = ~state.main.removed[found]
            enough = alive.sum(axis=1) >= k
            first = np.argsort(~alive[enough], axis=1, kind="stable")[:, :k]
            rows[todo[enough]] = np.take_along_axis(found[enough], first, axis=1)
            scores[todo[enough]] = np.take_along_axis(found_scores[enough], first, axis=1)
            todo, wanted = todo[~enough], 4 * wanted
    if metric == "l2":
        distances = _squared_distances(np.repeat(queries, k, axis=0), state.main.vectors, rows.ravel())
        scores = -distances.reshape(rows.shape)
        order = np.lexsort((rows, -scores))
        rows, scores = (np.take_along_axis(x, order, axis=1) for x in (rows, scores))
    return rows, scores


def _with_tail(
    state: _State, queries: np.ndarray, k: int, rows: np.ndarray, scores: np.ndarray, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of those found in main and of the tail: ids object[Q, k] and scores f32[Q, k].

    Only what beats the last found in main needs sorting. Of equal scores those of main come first, then the order of
    the tail.
    """
    ids, best = np.empty((len(queries), k), object), np.empty((len(queries), k), np.float32)
    chunk, enough = max(1, SCORES_AT_ONCE // len(state.tail)), rows.shape[1] == k
    tail, main = state.tail.vectors, len(state.main)
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        q = queries[part]
        products = q @ tail.T
        last = scores[part, -1:] if enough else np.full((len(q), 1), -np.inf, np.float32)
        if metric == "l2":
            # |q - x|² = |q|² + |x|² - 2 qx tells which are worth a look, up to rounding, and no more
            squares = (q * q).sum(axis=1, keepdims=True) + (tail * tail).sum(axis=1)[None]
            near = 2 * products - squares > last - 1e-5 * squares
        else:
            near = products > last
        query, row = np.nonzero(near & ~state.tail.removed[None])
        if metric == "l2":
            new = -_squared_distances(q[query], tail, row) if len(row) else np.empty(0, np.float32)
        else:
            new = products[query, row]
        # all candidates in one line, sorted by query, score and row; each query's first k are its answer
        of = np.concatenate([np.repeat(np.arange(len(q)), rows.shape[1]), query])
        all_rows = np.concatenate([rows[part].ravel(), row + main])
        all_scores = np.concatenate([scores[part].ravel(), new])
        rank = np.concatenate([np.tile(np.arange(rows.shape[1]), len(q)), row + main])
        order = np.lexsort((rank, -all_scores, of))
        of, all_rows, all_scores = of[order], all_rows[order], all_scores[order]
        place = np.arange(len(of)) - np.searchsorted(of, np.arange(len(q)))[of]
        first = place < k
        chosen = all_rows[first].reshape(len(q), k)
        best[part] = all_scores[first].reshape(len(q), k)
        in_tail = chosen >= main
        found = np.empty(chosen.shape, object)
        found[in_tail] = state.tail.ids[chosen[in_tail] - main]
        found[~in_tail] = state.main.ids[chosen[~in_tail]]
        ids[part] = found
    return ids, best


def _squared_distances(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """f32[n] of queries f32[n, D] to the rows i[n] of vectors; by differences, which do not cancel."""
    distances, chunk = np.empty(len(rows), np.float32), max(1, SCORES_AT_ONCE // vectors.shape[1])
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        difference = queries[part] - vectors[rows[part]]
        distances[part] = np.einsum("nd,nd->n", difference, difference)
    return distances


def _extended(tail: _Rows, ids: list[Id], vectors: np.ndarray) -> _Rows:
    """The tail with items more; what older states see of its arrays stays."""
    before, after = len(tail), len(tail) + len(ids)
    room = tail.room
    if room is None or len(room[0]) < after:  # twice what is needed, so that one is copied only a few times
        room = np.empty(2 * after, object), np.empty((2 * after, vectors.shape[1]), np.float32)
        room[0][:before], room[1][:before] = tail.ids, tail.vectors
    room[0][before:after], room[1][before:after] = _objects(ids), vectors
    removed = np.concatenate([tail.removed, np.zeros(len(ids), bool)])
    return _Rows(room[0][:after], room[1][:after], removed, tail.dead, room)


def _row_numbers(state: _State) -> dict[Id, int]:
    """Id → row, those of the tail after those of main."""
    rows: dict[Id, int] = {}
    for part, first in ((state.main, 0), (state.tail, len(state.main))):
        live = np.flatnonzero(~part.removed)
        rows.update(zip(part.ids[live].tolist(), (live + first).tolist(), strict=True))
    return rows


def _objects(ids: Sequence[Id]) -> np.ndarray:
    """object[n]: NumPy would make 1 and "1" one type, and text of one width."""
    column = np.empty(len(ids), object)
    column[:] = ids
    return column


def _checked_ids(ids: Sequence[Id], *, unique: bool = True) -> list[Id]:
    """As str and int; raises UserError if one is neither, or blank, or, if it must not, comes twice."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise UserError(f"ids={ids!r} is no list of ids")
    checked_ids: list[Id] = []
    for i in ids:
        if isinstance(i, str) and i:
            checked_ids.append(str(i))
        elif isinstance(i, numbers.Integral) and not isinstance(i, bool):
            if abs(int(i)) >= LARGEST_ID:
                raise UserError("an id is an integer of more than 128 bits: give it as text")
            checked_ids.append(int(i))
        else:
            raise UserError(f"id {i!r} cannot name an item: ids are integers, or texts that are not blank")
    if unique and len(set(checked_ids)) < len(checked_ids):
        twice = next(i for i, count in collections.Counter(checked_ids).items() if count > 1)
        raise UserError(f"id {twice!r} comes more than once: every item needs an id of its own")
    return checked_ids


def _paired(ids: Sequence[Id], vectors: Array, metric: Metric, dim: int | None = None) -> tuple[list[Id], np.ndarray]:
    """Ids and vectors, checked, of as many items."""
    ids, vectors = _checked_ids(ids), _prepared(vectors, metric, "vectors", dim)
    if len(ids) != len(vectors):
        raise UserError(f"there are {len(ids)} ids and {len(vectors)} vectors: an index needs one for each item")
    return ids, vectors


def _prepared(vectors: Array, metric: Metric, field: str, dim: int | None = None) -> np.ndarray:
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
