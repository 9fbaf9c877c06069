"""The matches of each item: candidates above a threshold, of one kind of vectors or the union of several."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.matching.candidates import MOST, Candidates
from ssljax.evaluation.rerank.answers import first_of_each, min2
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class MatchLists:
    """The matches of each of n items, without the item itself, those with the largest margin first."""

    rows: np.ndarray
    """i32[n, K]; -1 where there are no more, always at the end"""
    margins: np.ndarray
    """f32[n, K], how far the score is above its threshold; below 0 for a match by min2, -inf where there are no more"""
    scores: np.ndarray
    """f32[n, K]; -inf where there are no more"""
    kinds: np.ndarray
    """i8[n, K], which of the candidates of a union a match comes from; 0 without a union"""

    @classmethod
    def of(cls, candidates: Candidates, threshold: float, loose: float | None = None) -> "MatchLists":
        """The candidates from `threshold` on; with `loose` the nearest from there on, too: see `rerank.min2`."""
        kept = min2(candidates.scores, threshold, threshold if loose is None else loose) & (candidates.rows >= 0)
        rows = np.where(kept, candidates.rows, -1)
        scores = np.where(kept, candidates.scores, np.float32(-np.inf))
        # an infinite threshold keeps nothing, and inf - inf would be no number
        margins = np.where(kept, scores - np.float32(threshold if np.isfinite(threshold) else 0), -np.inf)
        return cls(rows, margins.astype(np.float32), scores, np.zeros(rows.shape, np.int8))

    @classmethod
    def union(cls, parts: Sequence["MatchLists"], most: int = MOST) -> "MatchLists":
        """What any of the parts matches, each item once, with its largest margin and what that comes from.

        Args:
          parts: matches of the same n items, each by its own threshold.
          most: how many items at most, the item itself included.
        """
        if not parts or len({len(part) for part in parts}) > 1:
            raise UserError(f"parts have {[len(part) for part in parts]} items: they must be matches of the same items")
        rows, margins, scores = (
            np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("rows", "margins", "scores")
        )
        kinds = np.concatenate([np.full(part.rows.shape, kind, np.int8) for kind, part in enumerate(parts)], axis=1)
        for _ in range(2):  # sorted so that the best of each item is its first; then without the others
            order = np.argsort(-margins, axis=1, kind="stable")
            rows, margins, scores, kinds = (np.take_along_axis(x, order, 1) for x in (rows, margins, scores, kinds))
            first = first_of_each(rows)
            rows, margins, scores = (
                np.where(first, x, none) for x, none in ((rows, -1), (margins, -np.inf), (scores, -np.inf))
            )
        rows, margins, scores, kinds = (x[:, : most - 1] for x in (rows, margins, scores, kinds))
        return cls(rows, margins, scores, np.where(rows >= 0, kinds, 0).astype(np.int8))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items i64[P], their matches i32[P], and the margins f32[P]: of each match one, in the order of the items."""
        items, columns = np.nonzero(self.rows >= 0)
        return items, self.rows[items, columns], self.margins[items, columns]
