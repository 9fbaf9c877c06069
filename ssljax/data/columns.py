"""What a column of a table becomes. Every column is text, whatever the type that its file gives it: `as_text` decides
how a value is written. A source then turns the columns that its fields name into numbers: labels, listings, attributes.
"""

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ssljax.data.text import comparable, valid
from ssljax.types import UserError


def as_text(value: Any) -> str:
    """A value of JSON, Parquet or Excel as text: as Python shows it, but whole numbers without a fraction of 0.

    A missing value is blank; a list or an object becomes JSON. Values of CSV files are text already.
    """
    if value is None or value != value:  # NaN, which writers of Parquet put for a missing number
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # a column of whole numbers becomes float as soon as one is missing
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def text(values: Iterable[str]) -> np.ndarray:
    """object[n] of str that can be written in UTF-8: what cannot is replaced here, once and for all."""
    return raw_text(map(valid, values))


def raw_text(values: Iterable[str]) -> np.ndarray:
    """object[n] of str as they are, such as names of files, which may be any bytes.

    NumPy's fixed-width text would take four bytes for each character of the longest value.
    """
    values = list(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def shared(values: Iterable[str], change: Callable[[str], str] = str) -> np.ndarray:
    """object[n] of str: `change` of each value. Equal ones are one object, as catalogues repeat values."""
    return raw_text(map(functools.cache(change), values))


def encode(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers i32[n] of text values, and the sorted vocabulary; a blank value is -1.

    Blanks around a value and the form of its accents do not count. If all values are whole numbers they are sorted as
    numbers, so that labels 0 to 99 keep theirs.
    """
    texts = list(map(functools.cache(comparable), values))
    names = sorted(set(texts) - {""})
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    number = {name: code for code, name in enumerate(names)} | {"": -1}
    return np.array([number[value] for value in texts], dtype=np.int32), tuple(names)


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


def encode_attributes(columns: Iterable[np.ndarray]) -> tuple[np.ndarray | None, tuple[tuple[str, ...], ...]]:
    """Numbers i32[n, A] and the vocabularies of A columns; None and () of none."""
    coded = [encode(values) for values in columns]
    numbers = np.stack([codes for codes, _ in coded], axis=1) if coded else None
    return numbers, tuple(names for _, names in coded)


def listing_keys(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """What photos of one listing share: the text without case and outer blanks; a blank listing is the photo's id."""
    # the NUL keeps an id from being taken for another item's listing
    return text(comparable(v).casefold() or f"\0{i}" for v, i in zip(values, ids, strict=True))


def check_numbers(name: str, numbers: Any, axes: int) -> np.ndarray:
    """Numbers of labels and the like, i32 with `axes` axes; raises UserError unless they are whole, -1 or more, and
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
