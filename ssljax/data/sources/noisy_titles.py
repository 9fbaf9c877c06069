"""NoisyTitles: a source whose titles say less, to measure what a text encoder is worth where titles give the answer."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from ssljax.data.columns import text
from ssljax.data.items import Items
from ssljax.data.text import readable
from ssljax.data.titles import TitleAugmentation
from ssljax.types import UserError, check_fields


@dataclasses.dataclass(frozen=True)
class NoisyTitles:
    """A source whose items have shorter and misspelt titles; everything else stays, other columns too.

    `NoisyTitles(Catalogue("fashion/styles.csv", title="productDisplayName"))`

    For data in which relevant items are those of one title: a text encoder that sees the whole title reads the answer.
    An item's title depends on its id, the seed and the title alone, so that it is the same in every split, for any
    other items, and on every machine. A title of no more words than are removed becomes blank.
    """

    data: Any
    """the source, with titles"""
    without_last: int = 2
    """words that are removed from the end of each title"""
    drop: float = 0.2
    """the probability that one of the other words is left out; one of them stays"""
    misspell: float = 0.1
    """the probability that a word gets one typing error, as in `TitleAugmentation`"""
    seed: int = 0
    """decides which words"""

    def __post_init__(self):
        check_fields(self, "data", without_last=0)
        for name in ("drop", "misspell"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UserError(f"data.{name}={value} is not a probability: it must be between 0 and 1")

    def load(self, split: str) -> Items:
        """See `Source.load`; raises UserError if the source has no titles."""
        items = self.data.load(split)
        if "title" not in items.columns:
            raise UserError("NoisyTitles needs titles, and its source has none: name the column in its `title`")
        change = TitleAugmentation(drop=self.drop, misspell=self.misspell)
        titles = [self._shortened(title) for title in items.columns["title"]]
        noisy = [change([title], self._rng(id_))[0] for id_, title in zip(items.ids, titles, strict=True)]
        return dataclasses.replace(items, columns=items.columns | {"title": text(noisy)})

    def _shortened(self, title: str) -> str:
        words = title.split()
        return " ".join(words[: max(0, len(words) - self.without_last)])

    def _rng(self, id_: str) -> np.random.Generator:
        """Not default_rng, which may be another generator in a later NumPy."""
        digest = hashlib.blake2b(f"{self.seed}/{readable(id_)}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
