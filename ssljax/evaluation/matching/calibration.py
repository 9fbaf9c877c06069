"""Thresholds from items whose products are known, and row-wise F1, which judges them."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.matching.candidates import MOST, Candidates, blended
from ssljax.evaluation.matching.lists import MatchLists
from ssljax.evaluation.metrics import is_relevant, relevant_items
from ssljax.evaluation.rerank.answers import min2

STAGES = 3
QUANTILES = np.linspace(0.1, 0.9, 7)


def row_f1(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """f64[n], 2 |P ∩ T| / (|P| + |T|) of each item: P is itself and its matches, T the items of its product.

    Args:
      rows: i32[n, K], the matches of each item, each once; -1 = none.
      groups: i32[n], the product of each item; -1 is a product of its own.
    """
    sizes = 1 + relevant_items(groups, groups, np.arange(len(rows)))
    hits = is_relevant(groups, groups, rows).sum(axis=1)
    return 2 * (1 + hits) / (1 + (rows >= 0).sum(axis=1) + sizes)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """The nearest other items of n items, and which of them are the same product."""

    scores: np.ndarray
    """f32[n, K], falling; -inf where there are no more items"""
    true: np.ndarray
    """bool[n, K]"""
    sizes: np.ndarray
    """i64[n], how many items each one's product has, itself included"""

    @classmethod
    def of(cls, candidates: Candidates, groups: np.ndarray) -> "Judged":
        """Candidates of n items, with their products i32[n]; -1 is a product of its own."""
        sizes = 1 + relevant_items(groups, groups, np.arange(len(groups)))
        return cls(candidates.scores, is_relevant(groups, groups, candidates.rows), sizes)

    def f1(self, threshold: float, loose: float | None = None) -> np.ndarray:
        """f64[n], the `row_f1` of each row if all items from `threshold` on are predicted; by min2 with `loose`."""
        predicted = min2(self.scores, threshold, threshold if loose is None else loose)
        return 2 * (1 + (predicted & self.true).sum(axis=1)) / (1 + predicted.sum(axis=1) + self.sizes)

    def best_threshold(self) -> float:
        """The threshold of the largest mean of `f1`, halfway to the next score below; above all scores if none helps.

        A threshold that is lowered past a score lets one pair in, which moves its row's F1 by a known step. With all
        steps sorted by score, their running sum gives the mean at every possible threshold.
        """
        scores, sums = _running(self.scores, self._steps)
        best = int(np.argmax(sums)) if len(sums) else -1
        return _between(scores, best if best >= 0 and sums[best] > 0 else -1)

    def best_min2(self) -> tuple[float, float]:
        """Threshold and loose threshold of the largest mean of `f1`, out of all pairs with loose <= threshold.

        The nearest item of a row comes in at `loose`, all others at `threshold`, so that the mean is a sum of a
        function of the one and a function of the other.
        """
        steps = self._steps
        loose, first = _running(self.scores[:, :1], steps[:, :1])
        threshold, others = _running(self.scores[:, 1:], steps[:, 1:])
        # with the nearest in down to one score, the others may be in down to just above the next score of a nearest
        reached = np.searchsorted(-threshold, -np.append(loose[1:], -np.inf))
        sums = first + np.maximum.accumulate(np.append(0.0, others))[reached] if len(loose) else first
        place = int(np.argmax(sums)) if len(sums) else -1
        if place < 0 or sums[place] <= 0:
            return _between(loose, -1), _between(loose, -1)
        allowed = others[: reached[place]]
        if allowed.max(initial=0) <= 0:
            return _between(loose, -1), _between(loose, place)
        best = int(np.argmax(allowed))
        high, low = _between(threshold, best), _between(loose, place)
        if high < low:  # a threshold for all that parts both at these places
            below = [scores[at + 1] for scores, at in ((threshold, best), (loose, place)) if at + 1 < len(scores)]
            above = min(threshold[best], loose[place])
            high = low = float((max(below) + above) / 2 if below else above)
        return high, low

    @property
    def _steps(self) -> np.ndarray:
        """f64[n, K]: by how much F1 changes as each next neighbour is predicted."""
        k = np.arange(1, self.scores.shape[1] + 1)
        after = 2 * (1 + np.cumsum(self.true, axis=1)) / (1 + k[None] + self.sizes[:, None])
        return np.diff(after, axis=1, prepend=2 / (1 + self.sizes[:, None]))


def _running(scores: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different scores that there are, falling, f64[m], and the sum of all steps from each score on, f64[m]."""
    there = np.isfinite(scores)
    scores, steps = scores[there], steps[there]
    order = np.argsort(-scores, kind="stable")
    scores, sums = scores[order], np.cumsum(steps[order])
    last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # pairs of equal scores come in together
    return scores[last].astype(np.float64), sums[last]


def _between(scores: np.ndarray, place: int) -> float:
    """A threshold halfway between the score at `place` and the next one below; for -1 above all scores."""
    if not len(scores):
        return float("inf")
    if place < 0:
        return float(np.nextafter(np.float32(scores[0]), np.float32(np.inf)))
    return float(scores[place : place + 2].mean())


def calibrate_blending(
    vectors: np.ndarray, groups: np.ndarray, *, stages: int = STAGES, rounds: int = 1, most: int = MOST
) -> tuple[float, ...]:
    """The thresholds of `blended`, one a stage, that give the largest mean F1 after it, at its best min2 thresholds.

    A search of one stage after the other, the others kept, over quantiles of the nearest neighbours' cosines; a stage
    that does not help is left out, so that there may be fewer thresholds than stages, or none.

    Args:
      vectors: f32[n, D], of unit length.
      groups: i32[n], the product of each item; -1 is a product of its own.
      stages: how many at most.
      rounds: how often each stage's threshold is chosen.
      most: the largest number of items in an answer, the item itself included.
    """

    def score(x: np.ndarray, thresholds: Sequence[float]) -> float:
        judged = Judged.of(Candidates.of(blended(x, thresholds), most - 1), groups)
        return float(judged.f1(*judged.best_min2()).mean())

    chosen = [np.inf] * stages
    best = score(vectors, ())
    for _, stage in itertools.product(range(rounds), range(stages)):
        before = blended(vectors, chosen[:stage])
        nearest = Candidates.of(before, 1).scores
        for threshold in np.quantile(nearest[np.isfinite(nearest)], QUANTILES).tolist():
            if threshold >= 0 and (found := score(before, (threshold, *chosen[stage + 1 :]))) > best:
                best, chosen[stage] = found, threshold
    return tuple(t for t in chosen if np.isfinite(t))


def calibrate_union(
    candidates: Sequence[Candidates], groups: np.ndarray, *, rounds: int = 2, most: int = MOST
) -> tuple[float, ...]:
    """The threshold of each of several candidates for the largest mean F1 of the union; inf leaves one out.

    A search of one threshold after the other, the others kept, over quantiles of its scores. It begins with what is
    best for each alone, and with each alone, so that on these items the union is at least as good as the best of them.

    Args:
      candidates: of the same n items.
      groups: i32[n], the product of each item; -1 is a product of its own.
      rounds: how often each threshold is chosen.
      most: the largest number of items in an answer, the item itself included.
    """

    def score(thresholds: Sequence[float]) -> float:
        parts = [MatchLists.of(part, threshold) for part, threshold in zip(candidates, thresholds, strict=True)]
        return float(row_f1(MatchLists.union(parts, most).rows, groups).mean())

    alone = [Judged.of(part, groups).best_threshold() for part in candidates]
    starts = [alone, *([t if i == k else np.inf for i, t in enumerate(alone)] for k in range(len(alone)))]
    best, chosen = max((score(start), start) for start in starts)
    for _, k in itertools.product(range(rounds), range(len(candidates))):
        nearest = candidates[k].scores[:, 0]
        grid = np.quantile(nearest[np.isfinite(nearest)], QUANTILES).tolist() if np.isfinite(nearest).any() else []
        for threshold in [*grid, np.inf]:
            trial = [*chosen[:k], threshold, *chosen[k + 1 :]]
            if (found := score(trial)) > best:
                best, chosen = found, trial
    return tuple(chosen)
