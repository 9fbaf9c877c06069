"""Shopee's price match: which listings are the same product, by a threshold chosen on another split."""

import dataclasses

import numpy as np

from ssljax.evaluation.evaluators.base import check_splits, named
from ssljax.evaluation.metrics import is_relevant, relevant_items
from ssljax.evaluation.nearest import top_k
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """The nearest other items of n items, and which of them are the same product."""

    scores: np.ndarray
    """f32[n, K], falling; -inf where there are no more items"""
    true: np.ndarray
    """bool[n, K]"""
    sizes: np.ndarray
    """i64[n], how many items each one's product has, itself included"""

    @classmethod
    def of(cls, vectors: np.ndarray, groups: np.ndarray, k: int) -> "Matches":
        """By dot product of vectors f32[n, D] of unit length; groups i32[n], -1 is a product of its own."""
        own = np.arange(len(vectors))
        rows, scores = top_k(vectors, vectors, k, exclude=own)
        return cls(scores, is_relevant(groups, groups, rows), 1 + relevant_items(groups, groups, own))

    def f1(self, threshold: float) -> np.ndarray:
        """f64[n], the F1 of each row if all items from `threshold` on are predicted."""
        return self.f1_of(self.scores >= np.float64(threshold))

    def f1_of(self, predicted: np.ndarray) -> np.ndarray:
        """f64[n], 2 |P ∩ T| / (|P| + |T|) of each row: P is the row and the `predicted` bool[n, K], T its product."""
        return 2 * (1 + (predicted & self.true).sum(axis=1)) / (1 + predicted.sum(axis=1) + self.sizes)

    def best_threshold(self) -> float:
        """The threshold of the largest mean of `f1`, halfway to the next score below; above all scores if none helps.

        A threshold that is lowered past a score lets one pair in, which moves its row's F1 by a known step. With all
        steps sorted by score, their running sum gives the mean at every possible threshold.
        """
        k = np.arange(1, self.scores.shape[1] + 1)
        after = 2 * (1 + np.cumsum(self.true, axis=1)) / (1 + k[None] + self.sizes[:, None])
        steps = np.diff(after, axis=1, prepend=2 / (1 + self.sizes[:, None]))
        there = np.isfinite(self.scores)
        scores, steps = self.scores[there], steps[there]
        order = np.argsort(-scores, kind="stable")
        scores, sums = scores[order], np.cumsum(steps[order])
        last = np.append(scores[1:] < scores[:-1], True)  # pairs of equal scores come in together
        scores, sums = scores[last].astype(np.float64), sums[last]
        best = int(np.argmax(sums))
        if sums[best] <= 0:
            return float(np.nextafter(scores[0], np.inf))
        return float(scores[best : best + 2].mean())


@dataclasses.dataclass(frozen=True)
class ShopeeF1:
    """Predicts that items above a threshold are one product. Figures are called `<split>/[<name>/]row-f1` and so on.

    - row-f1: the mean over all rows of 2 |P ∩ T| / (|P| + |T|): T is the items of the row's product, P the items
      predicted, and the row itself counts in both (Kaggle, Shopee - Price Match Guarantee, 2021).
    - threshold: the cosine from which on an item is predicted, the best one for split `calibrate` (the middle between
      two cosines there, so that rounding cannot decide).
    - calibrated-row-f1: the mean on `calibrate`; the drop from there to `split` is the cost of the choice.
    - queries: all rows; one that is alone in its product is right if it finds nothing.

    The two splits must have no product in common, so that the threshold has not seen the answers. `calibrate` should be
    as large as `split`: among more items more wrong ones are near, and a threshold from fewer is too low.
    """

    relevant: str | tuple[str, ...] = "listing"
    """The column, or columns, that items of one product agree in; see `Retrieval.relevant`."""
    split: str = "test"
    """The split whose items are looked up, each among the others."""
    calibrate: str = "val"
    """The split that the threshold is chosen on."""
    most: int = 50
    """The largest number of items predicted for a row, itself included: Kaggle's rule."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "ShopeeF1", most=2)
        check_splits(self, "calibrate", "split", because="choose the threshold on another split")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError as `check`."""
        chosen, judged = (
            Matches.of(normalise(embed(split).vectors), groups, self.most - 1)
            for split, groups in zip((self.calibrate, self.split), self._groups(embed), strict=True)
        )
        threshold = chosen.best_threshold()
        figures = {
            "row-f1": float(judged.f1(threshold).mean()),
            "threshold": threshold,
            "calibrated-row-f1": float(chosen.f1(threshold).mean()),
            "queries": len(judged.sizes),
        }
        return named(figures, self.split, self.name)

    def check(self, embed: Embed) -> None:
        """Raises UserError if a column is missing, the splits share a product, or one has no product of two items."""
        self._groups(embed)

    def _groups(self, embed: Embed) -> tuple[np.ndarray, np.ndarray]:
        splits = (self.calibrate, self.split)
        groups = relevance(self.relevant, *(embed(split) for split in splits), field="ShopeeF1.relevant")
        for split, part in zip(splits, groups, strict=True):
            if np.bincount(part[part >= 0]).max(initial=0) < 2:
                raise UserError(
                    f"ShopeeF1.relevant={self.relevant!r}: no two items of split {split!r} are of one product"
                )
        calibrate, judged = groups
        if count := int((np.intersect1d(calibrate, judged) >= 0).sum()):
            raise UserError(
                f"ShopeeF1.calibrate={self.calibrate!r} shares {count} products with split {self.split!r}: choose "
                "splits that have none in common"
            )
        return calibrate, judged
