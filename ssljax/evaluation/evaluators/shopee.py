"""Shopee's price match: which listings are the same product, by a threshold chosen on another split."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssljax.evaluation.evaluators.base import check_splits, named
from ssljax.evaluation.matching import MOST, Candidates, Judged, blended, calibrate_blending
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.types import Embed, UserError, check_fields


@dataclasses.dataclass(frozen=True)
class ShopeeF1:
    """Predicts that items above a threshold are one product. Figures are called `<split>/[<name>/]row-f1` and so on.

    - row-f1: the mean over all rows of 2 |P ∩ T| / (|P| + |T|): T is the items of the row's product, P the items
      predicted, and the row itself counts in both (Kaggle, Shopee - Price Match Guarantee, 2021).
    - threshold: the cosine from which on an item is predicted, the best one for split `calibrate` (the middle between
      two cosines there, so that rounding cannot decide).
    - calibrated-row-f1: the mean on `calibrate`; the drop from there to `split` is the cost of the choice.
    - best-row-f1: the mean at the best threshold for `split` itself, which nobody knows beforehand.
    - min2-row-f1 and blending-row-f1, with `steps`: after min2, and after neighbourhood blending and min2, with all
      their thresholds chosen on `calibrate`: min2-threshold and min2-loose, blending-threshold and blending-loose, and
      blending-stages, how many of three stages help there.
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
    steps: bool = False
    """Whether min2 and neighbourhood blending are measured too: choosing the thresholds takes a hundred searches."""
    most: int = MOST
    """The largest number of items predicted for a row, itself included: Kaggle's rule."""
    name: str = ""
    """Part of the figures' names, to tell apart several of these in one experiment."""

    def __post_init__(self):
        check_fields(self, "ShopeeF1", most=2)
        check_splits(self, "calibrate", "split", because="choose the threshold on another split")

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by `embed`; raises UserError as `check`."""
        groups = self._groups(embed)
        vectors = [normalise(embed(split).vectors) for split in (self.calibrate, self.split)]
        chosen, judged = self._judged(vectors, groups)
        threshold = chosen.best_threshold()
        figures = {
            "row-f1": float(judged.f1(threshold).mean()),
            "threshold": threshold,
            "calibrated-row-f1": float(chosen.f1(threshold).mean()),
            "best-row-f1": float(judged.f1(judged.best_threshold()).mean()),
            "queries": len(judged.sizes),
        }
        if self.steps:
            figures |= _by_min2("min2", chosen, judged)
            stages = calibrate_blending(vectors[0], groups[0], most=self.most)
            figures |= _by_min2("blending", *self._judged([blended(x, stages) for x in vectors], groups))
            figures["blending-stages"] = len(stages)
        return named(figures, self.split, self.name)

    def _judged(self, vectors: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> list[Judged]:
        return [Judged.of(Candidates.of(x, self.most - 1), g) for x, g in zip(vectors, groups, strict=True)]

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


def _by_min2(name: str, chosen: Judged, judged: Judged) -> dict[str, float]:
    """The figures of min2, by the thresholds that are best for `chosen`."""
    threshold, loose = chosen.best_min2()
    f1 = float(judged.f1(threshold, loose).mean())
    return {f"{name}-row-f1": f1, f"{name}-threshold": threshold, f"{name}-loose": loose}
