"""Items: one split of a data set, one row a photo; and how a source divides its photos into splits."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data.columns import check_numbers, text
from ssljax.data.paths import existing
from ssljax.data.text import readable
from ssljax.types import UserError

Shares = tuple[float, float, float]
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Items:
    """One split of a data set: one row a photo, all fields aligned.

    Labels, listings and values of attributes are numbered over the whole data set, so that splits agree.

    Raises UserError if there is no row, an id is blank or repeated, the lengths differ, or a label, a listing or an
    attribute is not a whole number that fits 32 bits.
    """

    ids: np.ndarray
    """str[n], unique"""
    photos: Sequence[Any]
    """random access: each a Path, encoded bytes, or u8[H, W, 3]; may be lazy; may be pickled to worker processes"""
    columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """every column of the source as text, object[n] of str; blank = missing; `title` is the item's title, if any"""
    label: np.ndarray | None = None
    """i32[n], -1 = missing"""
    listing: np.ndarray | None = None
    """i32[n]: photos of one listing share a number; a photo without a listing has a number of its own"""
    attributes: np.ndarray | None = None
    """i32[n, A], -1 = missing"""
    label_names: tuple[str, ...] = ()
    """the text of label 0, 1, ..."""
    attribute_names: tuple[str, ...] = ()
    """A names"""
    attribute_values: tuple[tuple[str, ...], ...] = ()
    """for each attribute, the text of value 0, 1, ..."""
    vectors: np.ndarray | None = None
    """f32[n, D], what a network has made of the photos: see `SavedEmbeddings`"""

    def __post_init__(self):
        n = len(self.ids)
        if n == 0:
            raise UserError("data: there is not one photo; a data set needs at least one")
        for name, axes in (("label", 1), ("listing", 1), ("attributes", 2)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_numbers(f"data: {name}", getattr(self, name), axes))
        for name, values in ({"photos": self.photos, "vectors": self.vectors} | self.numbers | self.columns).items():
            if values is not None and len(values) != n:
                raise UserError(f"data: {name} has {len(values)} rows and ids have {n}: they must be equally long")
        check_unique(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """What there is of `label`, `listing` and `attributes`."""
        numbers = {"label": self.label, "listing": self.listing, "attributes": self.attributes}
        return {name: values for name, values in numbers.items() if values is not None}

    def caption(self, row: int) -> str:
        """The title, or else the id, to show with a photo."""
        return str(self.columns.get("title", self.ids)[row]) or str(self.ids[row])

    def select(self, rows: np.ndarray) -> "Items":
        """The items at `rows`: i[m] or bool[n], as in numpy indexing. No photo is read."""
        rows = np.arange(len(self))[rows]
        return dataclasses.replace(
            self,
            ids=self.ids[rows],
            photos=PhotosAt(self.photos, rows),
            columns={name: values[rows] for name, values in self.columns.items()},
            vectors=None if self.vectors is None else self.vectors[rows],
            **{name: values[rows] for name, values in self.numbers.items()},
        )


class PhotosAt(Sequence):
    """Some of the photos of a sequence, by row; reads nothing until a photo is asked for."""

    def __init__(self, photos: Sequence[Any], rows: np.ndarray):
        if isinstance(photos, PhotosAt):  # a selection of a selection stays one step deep
            photos, rows = photos.photos, photos.rows[rows]
        self.photos, self.rows = photos, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.photos[int(self.rows[row])]


class Paths(Sequence):
    """Paths under a folder, kept as text: a million Path objects would take a gigabyte.

    Names are as the file system gives them (bytes that are not text are lone surrogates), or as a catalogue writes
    them.
    """

    def __init__(self, folder: Path, names: np.ndarray):
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Path:
        return existing(self.folder, self.names[row])


def check_unique(ids: np.ndarray) -> None:
    """Raises UserError if an id is blank or comes twice, naming the first ones and how many there are."""
    counts = Counter(ids)
    if "" in counts:
        raise UserError(f"data.id: {counts['']} of {len(ids)} ids are blank; every photo needs an id of its own")
    if len(counts) < len(ids):
        twice = [value for value, count in counts.items() if count > 1]
        some = ", ".join(repr(str(v)) for v in twice[:3]) + (", ..." if len(twice) > 3 else "")
        raise UserError(f"data.id: {len(twice)} ids come more than once ({some}); every photo needs an id of its own")


def check_shares(shares: Shares) -> Shares:
    """`shares`; raises UserError if they are not the shares of train, val and test."""
    if len(shares) != 3 or not (min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
        raise UserError(f"data.shares={shares} must be three shares (train, val, test) that sum to 1: try 0.8 0.1 0.1")
    return shares


def hashed_splits(keys: np.ndarray, shares: Shares) -> np.ndarray:
    """Split names for `keys` by their hash: equal keys fall in one split, whatever else the data set holds."""
    hashes = [hashed_fraction(str(key)) for key in keys]
    # the last boundary is left out: rounding must not leave a hash beyond it
    return text(SPLITS[k] for k in np.searchsorted(np.cumsum(check_shares(shares))[:2], hashes, side="right"))


def hashed_fraction(key: str) -> float:
    """In [0, 1), by the key alone, in whatever form its accents are."""
    return int.from_bytes(hashlib.blake2b(readable(key).encode(), digest_size=6).digest()) / 2**48


def split_rows(splits: np.ndarray, split: str) -> np.ndarray:
    """The rows i[m] of a split; raises UserError if it has none, with the splits there are and their sizes."""
    rows = np.flatnonzero(splits == split)
    if not len(rows):
        counts = Counter(splits[splits != ""])
        names = [name for name in SPLITS if name in counts] + sorted(set(counts) - set(SPLITS))
        there = ", ".join(f"{name} ({counts[name]})" for name in names) or "none"
        raise UserError(f"data: split {split!r} is empty; there are {there}")
    return rows
