"""FewLabels: a source in which only some classes keep their labels, to measure what labels are worth."""

import dataclasses
from typing import Any

import numpy as np

from ssljax.data.items import Items, hashed_fraction
from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class FewLabels:
    """A source whose train split keeps the labels of a share of its classes; all photos stay, and other splits too.

    `FewLabels(Catalogue("shop/items.csv", label="style"), share=0.1)`

    Whole classes lose their labels, not single photos, as a shop labels either all photos of an item or none. A hash of
    its name decides about a class, so that a larger share includes the classes of a smaller one. Columns and attributes
    stay.
    """

    data: Any
    """the source"""
    share: float = 0.1
    """of the classes, above 0 and up to 1"""
    seed: int = 0
    """decides which classes"""

    def __post_init__(self):
        check_fields(self, "data")
        if not 0 < self.share <= 1:
            raise UserError(f"data.share={self.share} is not a share: it must be above 0 and at most 1")

    def load(self, split: str) -> Items:
        """See `Source.load`; raises UserError if the source has no labels, or no class keeps them."""
        items = self.data.load(split)
        if split != "train":
            return items
        if items.label is None:
            raise UserError("FewLabels needs labels, and its source has none: name the column in its `label`")
        labels = np.unique(items.label[items.label >= 0])
        names = items.label_names or range(labels.max(initial=-1) + 1)
        kept = [k for k in labels if hashed_fraction(f"{self.seed}/{names[k]}") < self.share]
        if not kept:
            raise UserError(
                f"data.share={self.share} keeps the labels of none of {len(labels)} classes: choose a larger share"
            )
        return dataclasses.replace(items, label=np.where(np.isin(items.label, kept), items.label, -1))
