"""What each query finds first, right or wrong: what pages show of failures."""

import dataclasses
import functools

import numpy as np

from ssljax.retrieval.metrics import PerQuery, relevant_items
from ssljax.retrieval.topk import top_k
from ssljax.retrieval.vectors import normalise
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Finds:
    """The gallery item that is nearest to each of the m queries that have a relevant one, all fields aligned."""

    queries: np.ndarray
    """i64[m], their rows"""
    groups: np.ndarray
    """i32[m]: items of the gallery that have a query's number are relevant to it"""
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
        return PerQuery(self.queries, self.groups, {"cmc@1": self.hit.astype(float)})


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Queries and the gallery that they rank by cosine."""

    queries: np.ndarray
    """f32[Q, D], not normalised"""
    query_groups: np.ndarray
    """i32[Q]; items of the gallery that have a query's number are relevant to it; -1 = in no group"""
    gallery: np.ndarray
    """f32[n, D], not normalised"""
    gallery_groups: np.ndarray
    """i32[n]"""
    own: np.ndarray | None = None
    """i32[Q], the gallery row that each query is itself, left out of its ranking; None if it is not in the gallery"""

    def first(self) -> Finds:
        """What is found first; raises UserError if no query has a relevant item."""
        asked = np.flatnonzero(relevant_items(self.query_groups, self.gallery_groups, self.own))
        if not len(asked):
            raise UserError(f"none of the {len(self.queries)} queries has a relevant item in the gallery")
        own = None if self.own is None else self.own[asked]
        rows, scores = top_k(normalise(self.queries[asked]), self._gallery, 1, exclude=own)
        first, groups = rows[:, 0], self.query_groups[asked]
        return Finds(asked, groups, first, scores[:, 0], self.gallery_groups[first] == groups)

    def right(self, query: int) -> tuple[int, int]:
        """The relevant gallery row that comes first for a query, and its rank, from 1; of equal ones the lower row."""
        scores = self._gallery @ normalise(self.queries[query][None])[0]
        relevant = self.gallery_groups == self.query_groups[query]
        if self.own is not None:
            scores[self.own[query]] = -np.inf
            relevant[self.own[query]] = False
        row = int(np.argmax(np.where(relevant, scores, -np.inf)))
        before = int((scores > scores[row]).sum()) + int((scores[:row] == scores[row]).sum())
        return row, before + 1

    @functools.cached_property
    def _gallery(self) -> np.ndarray:
        return normalise(self.gallery)
