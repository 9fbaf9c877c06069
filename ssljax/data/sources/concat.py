"""Concat: splits of several sources as one, to search in more photos than one source has."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssljax.data.columns import text
from ssljax.data.items import Items
from ssljax.data.text import comparable
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class Part:
    """A split of a source, one of the parts of a `Concat`."""

    data: Any
    """the source"""
    split: str
    """which of its splits"""
    item: str | None = None
    """the column in which photos of one item agree; None for distractors, which nobody looks for"""


@dataclasses.dataclass(frozen=True)
class Concat:
    """Parts as one split, "test", with the columns `item` (blank for distractors) and, if a part has one, `title`.

    Items of two parts are the same if the parts are of equal sources and their columns agree.
    """

    parts: tuple[Part, ...]
    """splits of sources, at least one"""

    def load(self, split: str) -> Items:
        """All photos, in the order of the parts; raises UserError as Source does, or if a part lacks its column."""
        if split != "test":
            raise UserError(f"data: there is no split {split!r}: all parts together are the split 'test'")
        sources = list(dict.fromkeys(part.data for part in self.parts))
        loaded = [part.data.load(part.split) for part in self.parts]
        ids, item, title = [], [], []
        for part, items in zip(self.parts, loaded, strict=True):
            source = sources.index(part.data)
            if part.item is not None and part.item not in items.columns:
                raise UserError(
                    f"Part.item={part.item!r} is no column of split {part.split!r}: it has {', '.join(items.columns)}"
                )
            own = [""] * len(items) if part.item is None else [comparable(value) for value in items.columns[part.item]]
            ids += [f"{source}/{part.split}/{i}" for i in items.ids]
            item += [value and f"{source}/{value}" for value in own]
            title += list(items.columns.get("title", [""] * len(items)))
        columns = {"item": text(item)} | ({"title": text(title)} if any(title) else {})
        return Items(text(ids), PhotosInTurn([items.photos for items in loaded]), columns)


class PhotosInTurn(Sequence):
    """Sequences of photos, one after the other."""

    def __init__(self, parts: list[Sequence[Any]]):
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, row: int) -> Any:
        part = int(np.searchsorted(self.ends, row, side="right"))
        return self.parts[part][int(row) - int(self.ends[part]) + len(self.parts[part])]
