"""The titles of items as token ids, for batches."""

import dataclasses

import numpy as np

from ssljax.data.items import Items
from ssljax.data.titles import TitleAugmentation, Titles
from ssljax.data.titles.tokenizers import TitleReader
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class TokenizedTitles:
    """An experiment's `Titles`, with the tokenizer as it was learnt."""

    titles: Titles
    learnt: str
    """what the tokenizer learnt, which a run keeps; empty if there was nothing to learn"""
    reader: TitleReader

    @classmethod
    def of(cls, titles: Titles | None, items: Items | None, learnt: str | None = None) -> "TokenizedTitles | None":
        """By `learnt`, which a run keeps, or else learnt from the titles of `items`; None without `titles`.

        Raises UserError if the items have no titles, or the tokenizer cannot learn or be read.
        """
        if titles is None:
            return None
        if items is not None and "title" not in items.columns:
            raise UserError("titles: the data has no titles: name the column of titles in data.title")
        if learnt is None:
            assert items is not None
            learnt = titles.tokenizer.learn(items.columns["title"].tolist())
        return cls(titles, learnt, titles.tokenizer.reader(learnt))

    @property
    def length(self) -> int:
        """L, the number of token ids of a title."""
        return self.titles.length

    def __call__(self, items: Items, rows: np.ndarray, key: tuple[int, ...] | None = None) -> np.ndarray:
        """i32[*, L], token ids of the titles of `rows` i[*], -1 after the last; all -1 for items without titles.

        With a `key` of whole numbers they are augmented, each by the key and its row alone.
        """
        title, flat = items.columns.get("title"), rows.ravel().tolist()
        chosen = [""] * len(flat) if title is None else title[flat].tolist()
        if key is not None and self.titles.augmentation != TitleAugmentation():
            rngs = [np.random.default_rng((*key, row)) for row in flat]
            chosen = [self.titles.augmentation([one], rng)[0] for one, rng in zip(chosen, rngs, strict=True)]
        return self.ids(chosen).reshape(*rows.shape, self.length)

    def ids(self, titles: list[str]) -> np.ndarray:
        """i32[n, L], token ids of titles."""
        return self.reader(titles, self.length)
