"""What a search reads: items in a structure, items added since, and which are removed. None of it is ever changed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from ssljax.search.index.base import Builder

Id = str | int
Ids = Sequence[Id] | np.ndarray
Metric = Literal["cosine", "dot", "l2"]

SCORES_AT_ONCE = 2**22  # of queries with the tail


class Structure(Protocol):
    """Vectors in a form that is quick to search, never changed. Any number of threads may search it."""

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
        """The same vectors, searched with the effort of another builder of this kind."""
        ...

    def save(self, folder: Path) -> None:
        """Writes files into an empty folder, for `Builder.open`."""
        ...


@dataclasses.dataclass(frozen=True)
class Rows:
    """Items in order."""

    ids: np.ndarray
    """object[n] of Id"""
    vectors: np.ndarray
    """f32[n, D]"""
    removed: np.ndarray
    """bool[n]"""
    dead: int = 0
    """how many are removed"""
    room: tuple[np.ndarray, np.ndarray] | None = None
    """longer arrays that begin with ids and vectors; only the newest state writes beyond their end"""

    @classmethod
    def of(cls, ids: Ids, vectors: np.ndarray) -> "Rows":
        """Items of which none is removed."""
        return cls(objects(ids), vectors, np.zeros(len(vectors), bool))

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, rows: list[int]) -> "Rows":
        """With these marked as removed, which they must not be yet."""
        if not rows:
            return self
        removed = self.removed.copy()
        removed[rows] = True
        return dataclasses.replace(self, removed=removed, dead=self.dead + len(rows))

    def extended(self, ids: list[Id], vectors: np.ndarray) -> "Rows":
        """With more items; what older states see of the arrays stays."""
        before, after, room = len(self), len(self) + len(ids), self.room
        if room is None or len(room[0]) < after:  # twice what is needed, so that copies are few
            room = np.empty(2 * after, object), np.empty((2 * after, vectors.shape[1]), np.float32)
            room[0][:before], room[1][:before] = self.ids, self.vectors
        room[0][before:after], room[1][before:after] = objects(ids), vectors
        removed = np.concatenate([self.removed, np.zeros(len(ids), bool)])
        return Rows(room[0][:after], room[1][:after], removed, self.dead, room)

    def live(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and vectors of those that are not removed."""
        return (self.ids[~self.removed], self.vectors[~self.removed]) if self.dead else (self.ids, self.vectors)


@dataclasses.dataclass(frozen=True)
class State:
    """All items of an index at a moment. A change makes another state.

    A row is the number of an item, those of the tail after those of main.
    """

    structure: Structure | None
    """of main; None if main is empty"""
    main: Rows
    tail: Rows

    def __len__(self) -> int:
        return len(self.main) - self.main.dead + len(self.tail) - self.tail.dead

    @property
    def drift(self) -> int:
        """Items that a new structure would hold and this one does not, or the reverse."""
        return len(self.tail) + self.main.dead

    @property
    def patience(self) -> int:
        """How long the tail may become: each item there costs a search a comparison."""
        return max(1000, round(10 * len(self.main) ** 0.5))

    @property
    def is_due(self) -> bool:
        """Whether a new structure is worth building; a tenth removed costs a search little."""
        return len(self.tail) > self.patience or self.main.dead > max(1000, len(self.main) / 10)

    def live(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and vectors of all items, in the order in which they were given."""
        ids, vectors = zip(self.main.live(), self.tail.live(), strict=True)
        return np.concatenate(ids), np.concatenate(vectors)

    def row_numbers(self) -> dict[Id, int]:
        """Id → row, without removed items."""
        rows: dict[Id, int] = {}
        for part, first in ((self.main, 0), (self.tail, len(self.main))):
            live = np.flatnonzero(~part.removed)
            rows.update(zip(part.ids[live].tolist(), (live + first).tolist(), strict=True))
        return rows

    def vectors_of(self, rows: list[int]) -> np.ndarray:
        """f32[n, D] of these rows."""
        main, x = len(self.main), np.empty((len(rows), self.main.vectors.shape[1]), np.float32)
        for position, row in enumerate(rows):
            x[position] = self.main.vectors[row] if row < main else self.tail.vectors[row - main]
        return x

    def without(self, rows: list[int]) -> "State":
        """With these rows removed."""
        main = len(self.main)
        return dataclasses.replace(
            self,
            main=self.main.without([row for row in rows if row < main]),
            tail=self.tail.without([row - main for row in rows if row >= main]),
        )

    def rebuilt(self, structure: Structure | None, main: Rows, now: "State") -> "State":
        """A state with a structure of this state's items, `main`, and all that changed until `now`."""
        seen = len(self.tail)
        # marks of now on the rows that were alive in this state, which are the rows of the new main in order
        marks = ((now.main.removed, self.main.removed), (now.tail.removed[:seen], self.tail.removed))
        gone = np.flatnonzero(np.concatenate([after[~before] for after, before in marks]))
        added = ~now.tail.removed[seen:]
        tail = Rows.of(now.tail.ids[seen:][added], now.tail.vectors[seen:][added])
        return State(structure, main.without(gone.tolist()), tail)

    def search(self, queries: np.ndarray, k: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Ids object[Q, k] and scores f32[Q, k], the larger the better; for l2 minus the squared distances.

        k is at most the number of items.
        """
        rows, scores = self._search_main(queries, min(k, len(self.main) - self.main.dead), metric)
        if len(self.tail) == self.tail.dead:
            return self.main.ids.take(rows), scores  # twice as quick as [rows]
        return self._with_tail(queries, k, rows, scores, metric)

    def _search_main(self, queries: np.ndarray, k: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Rows of main [Q, k] that are not removed, and their scores f32[Q, k], the larger the better."""
        if not k:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        structure = self.structure
        assert structure is not None  # as there are items in main
        if not self.main.dead:
            rows, scores = structure.search(queries, k)
        else:
            rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
            todo, wanted = np.arange(len(queries)), 2 * k
            while len(todo):  # asks for more until enough are alive; a power of two: XLA compiles for each number
                wanted = min(1 << (wanted - 1).bit_length(), len(self.main))
                found, found_scores = structure.search(queries[todo], wanted)
                alive = ~self.main.removed[found]
                enough = alive.sum(axis=1) >= k
                first = np.argsort(~alive[enough], axis=1, kind="stable")[:, :k]
                rows[todo[enough]] = np.take_along_axis(found[enough], first, axis=1)
                scores[todo[enough]] = np.take_along_axis(found_scores[enough], first, axis=1)
                todo, wanted = todo[~enough], 4 * wanted
        if metric == "l2":
            distances = _squared_distances(np.repeat(queries, k, axis=0), self.main.vectors, rows.ravel())
            scores = -distances.reshape(rows.shape)
            order = np.lexsort((rows, -scores))
            rows, scores = (np.take_along_axis(x, order, axis=1) for x in (rows, scores))
        return rows, scores

    def _with_tail(
        self, queries: np.ndarray, k: int, rows: np.ndarray, scores: np.ndarray, metric: Metric
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best k of those found in main and of the tail: ids object[Q, k] and scores f32[Q, k].

        Only what beats the last found in main is sorted. Of equal scores main comes first, then the order of the tail.
        """
        ids, best = np.empty((len(queries), k), object), np.empty((len(queries), k), np.float32)
        chunk, enough = max(1, SCORES_AT_ONCE // len(self.tail)), rows.shape[1] == k
        tail, main = self.tail.vectors, len(self.main)
        for start in range(0, len(queries), chunk):
            part = slice(start, start + chunk)
            q = queries[part]
            products = q @ tail.T
            last = scores[part, -1:] if enough else np.full((len(q), 1), -np.inf, np.float32)
            if metric == "l2":
                # |q - x|² = |q|² + |x|² - 2 qx only tells, up to rounding, which are worth a look
                squares = (q * q).sum(axis=1, keepdims=True) + (tail * tail).sum(axis=1)[None]
                near = 2 * products - squares > last - 1e-5 * squares
            else:
                near = products > last
            query, row = np.nonzero(near & ~self.tail.removed[None])
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
            found[in_tail] = self.tail.ids[chosen[in_tail] - main]
            found[~in_tail] = self.main.ids[chosen[~in_tail]]
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


def objects(ids: Ids) -> np.ndarray:
    """object[n]: NumPy would make 1 and "1" one type, and text of one width."""
    column = np.empty(len(ids), object)
    column[:] = ids
    return column
