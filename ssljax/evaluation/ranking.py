"""Which items are relevant to which, and what queries find in a gallery, right or wrong."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ssljax.data.text import comparable
from ssljax.evaluation.embeddings import Embeddings
from ssljax.evaluation.metrics import PerQuery, cmc, is_relevant, per_query_figures, relevant_items
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError

CHUNK = 32  # queries whose scores with the whole gallery exist at once


def relevance(
    columns: str | tuple[str, ...], *embeddings: Embeddings, field: str = "Retrieval.relevant"
) -> tuple[np.ndarray, ...]:
    """For each of the embeddings, i32[n]: equal numbers where all `columns` agree, also between them; -1 for a blank.

    Raises UserError if a column is missing, naming those there are; `field` is the setting that names the columns.
    """
    columns = (columns,) if isinstance(columns, str) else columns
    number: dict[tuple, int] = {}
    groups = []
    for part in embeddings:
        keys = zip(*(compared_values(part, column, field) for column in columns), strict=True)
        groups.append(np.array([-1 if None in k else number.setdefault(k, len(number)) for k in keys], np.int32))
    return tuple(groups)


def compared_values(embeddings: Embeddings, column: str, field: str) -> list[Any]:
    """The values of a column as they are compared, case and outer blanks ignored; None where one is missing."""
    if column in embeddings.columns:
        return [comparable(value).casefold() or None for value in embeddings.columns[column]]
    numbers = {"label": embeddings.label, "listing": embeddings.listing}
    own = {name: values for name, values in numbers.items() if values is not None}
    if column not in own:
        there = list(dict.fromkeys([*embeddings.columns, *own]))
        raise UserError(f"{field}={column!r} is not a column of the data: it has {', '.join(there) or 'none'}")
    return [number if number >= 0 else None for number in own[column].tolist()]


@dataclasses.dataclass(frozen=True, eq=False)
class Finds:
    """The gallery item that is nearest to each of the m queries that have a relevant one, all fields aligned."""

    queries: np.ndarray
    """i64[m], their rows"""
    groups: np.ndarray
    """i32[m]: gallery items with a query's number are relevant to it"""
    first: np.ndarray
    """i32[m], the row that is found first"""
    score: np.ndarray
    """f32[m], its cosine"""
    hit: np.ndarray
    """bool[m], whether it is relevant"""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def per_query(self) -> PerQuery:
        """CMC@1 of each query, with its row."""
        return PerQuery(self.queries, self.groups, {"cmc@1": cmc(self.hit[:, None], 1)})


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Queries and the gallery that they rank by cosine."""

    queries: np.ndarray
    """f32[Q, D], not normalised"""
    query_groups: np.ndarray
    """i32[Q]; gallery items with a query's number are relevant to it; -1 = in no group"""
    gallery: np.ndarray
    """f32[n, D], not normalised"""
    gallery_groups: np.ndarray
    """i32[n]"""
    own: np.ndarray | None = None
    """i32[Q], the gallery row that each query is itself, left out of its ranking; None if it is not in the gallery"""

    @classmethod
    def of(
        cls,
        embed: Embed,
        relevant: str | tuple[str, ...],
        split: str,
        gallery: str | None = None,
        *,
        field: str = "Retrieval.relevant",
    ) -> "Ranking":
        """The items of `split` and of `gallery`, or if that is None among themselves; raises as `relevance`."""
        queries, searched = embed(split), embed(gallery or split)
        query_groups, gallery_groups = relevance(relevant, queries, searched, field=field)
        own = np.arange(len(queries)) if gallery in (None, split) else None
        return cls(queries.vectors, query_groups, searched.vectors, gallery_groups, own)

    @property
    def positives(self) -> np.ndarray:
        """R of each query, i64[Q]: how many relevant items it has."""
        return relevant_items(self.query_groups, self.gallery_groups, self.own)

    @property
    def asked(self) -> np.ndarray:
        """i64[m], the rows of the queries that have a relevant item."""
        return np.flatnonzero(self.positives)

    def nearest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines f32[Q, k] of the nearest, falling, and which of these are relevant, bool[Q, k]; see `top_k`."""
        queries, gallery = self.units
        rows, scores = top_k(queries, gallery, k, exclude=self.own)
        return scores, is_relevant(self.query_groups, self.gallery_groups, rows)

    def per_query(self, **settings) -> PerQuery:
        """The figures of each query; the settings are those of `metrics.per_query_figures`."""
        queries, gallery = self.units
        return per_query_figures(queries, self.query_groups, gallery, self.gallery_groups, own=self.own, **settings)

    def first(self) -> Finds:
        """The nearest item of each query; raises UserError if no query has a relevant item."""
        asked, (queries, gallery) = self.asked, self.units
        if not len(asked):
            raise UserError(f"none of the {len(self.queries)} queries has a relevant item in the gallery")
        own = None if self.own is None else self.own[asked]
        rows, scores = top_k(queries[asked], gallery, 1, exclude=own)
        groups = self.query_groups[asked]
        hit = is_relevant(groups, self.gallery_groups, rows)
        return Finds(asked, groups, rows[:, 0], scores[:, 0], hit[:, 0])

    def right(self, query: int) -> tuple[int, int]:
        """The relevant gallery row that comes first for a query, and its rank, from 1; of equal ones the lower row."""
        _, scores = next(self.scores(np.array([query])))
        row = int(np.argmax(np.where(self.gallery_groups == self.query_groups[query], scores, -np.inf)))
        return row, rank(scores, row)

    def scores(self, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each of `queries` i[q] with its cosines f32[n] with the gallery, -inf with itself."""
        units, gallery = self.units
        for start in range(0, len(queries), CHUNK):
            chunk = queries[start : start + CHUNK]
            for query, scores in zip(chunk.tolist(), units[chunk] @ gallery.T, strict=True):
                if self.own is not None:
                    scores[self.own[query]] = -np.inf
                yield query, scores

    @functools.cached_property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries f32[Q, D] and gallery f32[n, D], of unit length."""
        gallery = normalise(self.gallery)
        return gallery if self.queries is self.gallery else normalise(self.queries), gallery


def rank(scores: np.ndarray, row: int) -> int:
    """The rank, from 1, of one of the rows that f[n] scores; of equal ones the lower row comes first."""
    return 1 + int((scores > scores[row]).sum()) + int((scores[:row] == scores[row]).sum())
