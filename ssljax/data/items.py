"""Items: one split of a data set, one row a photo; and what the sources share to build one."""

import dataclasses
import difflib
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data.paths import existing
from ssljax.data.text import comparable, readable, valid
from ssljax.types import UserError

Shares = tuple[float, float, float]
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Items:
    """One split of a data set: one row a photo, all fields aligned.

    Numbers of labels, listings and attribute values are given over the whole data set, so that splits agree.

    Raises UserError if there is no row, an id is blank or repeated, the lengths differ, or a label, a listing or an
    attribute is no number of 32 bits.
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

    def __post_init__(self):
        n = len(self.ids)
        if n == 0:
            raise UserError("data: there is not one photo; a data set needs at least one")
        for name, axes in (("label", 1), ("listing", 1), ("attributes", 2)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_numbers(f"data: {name}", getattr(self, name), axes))
        arrays = {"photos": self.photos, "label": self.label, "listing": self.listing, "attributes": self.attributes}
        for name, values in (arrays | self.columns).items():
            if values is not None and len(values) != n:
                raise UserError(f"data: {name} has {len(values)} rows and ids have {n}: they must be equally long")
        check_unique(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def caption(self, row: int) -> str:
        """The title, or else the id, to show with a photo."""
        return str(self.columns.get("title", self.ids)[row])

    def select(self, rows: np.ndarray) -> "Items":
        """The items at `rows`: i[m] or bool[n], as in numpy indexing; nothing is decoded or copied but the columns."""
        rows = np.arange(len(self))[rows]
        return dataclasses.replace(
            self,
            ids=self.ids[rows],
            photos=PhotosAt(self.photos, rows),
            columns={name: values[rows] for name, values in self.columns.items()},
            label=None if self.label is None else self.label[rows],
            listing=None if self.listing is None else self.listing[rows],
            attributes=None if self.attributes is None else self.attributes[rows],
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

    Names are as the system gives them (bytes that are no text are lone surrogates), or as a catalogue writes them.
    """

    def __init__(self, folder: Path, names: np.ndarray):
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Path:
        return existing(self.folder, self.names[row])


def text(values: Iterable[str]) -> np.ndarray:
    """object[n] of str that can be written in UTF-8: what cannot be is replaced, here, for all that follows."""
    return raw_text(map(valid, values))


def raw_text(values: Iterable[str]) -> np.ndarray:
    """object[n] of str, for names of files, which may be any bytes: numpy's fixed-width text would take four bytes for
    each character of the longest value."""
    values = list(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def check_unique(ids: np.ndarray) -> None:
    """Raises UserError if an id is blank or comes twice, naming the first ones and how many there are."""
    counts = Counter(ids)
    if "" in counts:
        raise UserError(f"data.id: {counts['']} of {len(ids)} ids are blank; every photo needs an id of its own")
    if len(counts) < len(ids):
        twice = [value for value, count in counts.items() if count > 1]
        some = ", ".join(repr(str(v)) for v in twice[:3]) + (", ..." if len(twice) > 3 else "")
        raise UserError(f"data.id: {len(twice)} ids come more than once ({some}); every photo needs an id of its own")


def check_numbers(name: str, numbers: Any, axes: int) -> np.ndarray:
    """Numbers of labels and the like, i32 with so many axes; raises UserError unless they are whole, -1 or more, and
    fit 32 bits."""
    numbers = np.asarray(numbers)
    if numbers.ndim != axes or not np.issubdtype(numbers.dtype, np.integer):
        raise UserError(
            f"{name} of shape {numbers.shape} and type {numbers.dtype} must be whole numbers from 0, of shape "
            f"{('[n]', '[n, A]')[axes - 1]}, with -1 where there is none"
        )
    wrong = np.argwhere((numbers < -1) | (numbers > np.iinfo(np.int32).max))
    if len(wrong):
        raise UserError(
            f"{name} has the number {numbers[tuple(wrong[0])]} in row {wrong[0][0]}: number them from 0 to at most "
            f"{np.iinfo(np.int32).max}, with -1 where there is none, as numpy.unique(..., return_inverse=True) does"
        )
    return numbers.astype(np.int32, copy=False)


def encode(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers i32[n] of text values and their sorted vocabulary (in numeric order if all are whole numbers, so that
    labels 0 to 99 keep their numbers); a blank value is -1. Blanks around a value do not count, nor does the form of
    its accents."""
    values = list(map(functools.cache(comparable), values))
    names = sorted(set(values) - {""})
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    number = {name: code for code, name in enumerate(names)} | {"": -1}
    return np.array([number[value] for value in values], dtype=np.int32), tuple(names)


def encode_label(values: np.ndarray, field: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `encode`; raises UserError if no label comes twice, as nothing can be learned or measured from such labels."""
    codes, names = encode(values)
    if not names:
        raise UserError(f"data.label={field!r} is blank in every row: choose a column with labels, or none")
    if len(names) == (codes >= 0).sum():
        raise UserError(
            f"data.label={field!r} never repeats ({len(names)} values in as many rows): "
            "choose a column whose values are shared by several photos, or none"
        )
    return codes, names


def listing_keys(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """What photos of one listing share: the text without case and outer blanks; a blank listing is the photo's id."""
    # the NUL keeps an id from being taken for another item's listing
    return text(comparable(v).casefold() or f"\0{i}" for v, i in zip(values, ids, strict=True))


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


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """`: did you mean 'articleType'? There are id, articleType, ...`: the end of a sentence about a wrong name."""
    meant = nearest(name, names)
    return (f": did you mean {meant!r}? There" if meant else ": there") + f" are {', '.join(map(str, names))}"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that was meant by `name`, to all appearances; None if none was."""
    lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return lower[close[0]] if close else None
