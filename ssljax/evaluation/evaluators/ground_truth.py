"""Reads the published ground truth of revisited Oxford and Paris, gnd_roxford5k.pkl and gnd_rparis6k.pkl.

The files are pickles, and a pickle can run any program. So nothing that a file names is called: the few names that
NumPy's arrays need stand for functions of this file, which make arrays of plain numbers from bytes; any other name is
refused. What is left is lists, tuples, dicts, strings and numbers.
"""

import dataclasses
import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.data.atomic_files import read_bytes
from ssljax.types import UserError

LARGEST = 2**26  # bytes: the published files are a few hundred kilobytes
LISTS = ("easy", "hard", "junk")


@dataclasses.dataclass(frozen=True, eq=False)
class GroundTruth:
    """Of Q queries what is right, what is right but hard to see, and what is neither right nor wrong.

    Of the lists each is Q arrays i64, rows of `gallery`.
    """

    gallery: tuple[str, ...]
    """photos that are searched, names without extension"""
    queries: tuple[str, ...]
    """photos that are looked for"""
    boxes: np.ndarray
    """f64[Q, 4], the left, upper, right and lower edge of what is looked for in its photo, px; the rest is cut off"""
    easy: tuple[np.ndarray, ...]
    hard: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]


def read_ground_truth(path: Path) -> GroundTruth:
    """What the file says; raises UserError if it is missing, damaged, of another kind, or wants to run anything."""
    remedy = "gnd_roxford5k.pkl or gnd_rparis6k.pkl as published is needed"
    try:
        content = read_bytes(path, LARGEST)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    try:
        return _ground_truth(_Unpickler(content).load())
    except Exception as error:  # on a broken or hostile pickle the reader raises whatever it stumbles over
        raise UserError(f"{path} is no ground truth ({type(error).__name__}: {error}): {remedy}") from None


def _ground_truth(value: Any) -> GroundTruth:
    names, queries, facts = value["imlist"], value["qimlist"], value["gnd"]
    if not all(isinstance(name, str) for name in [*names, *queries]):
        raise ValueError("a name is not text")
    if len(queries) != len(facts):
        raise ValueError(f"{len(queries)} queries and {len(facts)} answers")
    rows = {kind: tuple(_rows(fact[kind], len(names)) for fact in facts) for kind in LISTS}
    boxes = np.array([_values(fact["bbx"]) for fact in facts], np.float64).reshape(len(facts), 4)
    return GroundTruth(tuple(names), tuple(queries), boxes, **rows)


def _rows(value: Any, count: int) -> np.ndarray:
    rows = np.asarray(_values(value))
    if not rows.size:  # an empty list has no type
        return np.zeros(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= count:
        raise ValueError(f"a list holds other things than rows of the {count} photos")
    return rows.astype(np.int64)


def _values(value: Any) -> Any:
    """A list of numbers, or an array."""
    if isinstance(value, _Array):
        return value.array
    numbers = [x.array[()] if isinstance(x, _Array) else x for x in value]
    if not all(isinstance(x, int | float | np.number) for x in numbers):
        raise ValueError("a list holds other things than numbers")
    return numbers


class _Dtype:
    """Stands for numpy.dtype: a plain number, such as "i8"."""

    def __init__(self, name: str, *_: Any):
        kind, size = name[:1], name[1:]
        if kind not in "iuf" or size not in ("1", "2", "4", "8"):
            raise ValueError("an array of other things than numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array of an unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray, and for one number of NumPy's as an array without axes."""

    array = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_column, content = state
        self.fill(shape, dtype, content, "F" if by_column else "C")

    def fill(self, shape: tuple[int, ...], dtype: _Dtype, content: Any, order: str = "C") -> None:
        content = content.encode("latin1") if isinstance(content, str) else content  # Python 2's bytes are read as text
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise ValueError("an array is shorter or longer than its shape")
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


def _empty(*_: Any) -> _Array:
    """Stands for NumPy's _reconstruct: what the array is to be comes afterwards, as its state."""
    return _Array()


def _scalar(dtype: _Dtype, content: Any) -> _Array:
    """Stands for NumPy's scalar."""
    number = _Array()
    number.fill((), dtype, content)
    return number


def _from_buffer(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: Any) -> _Array:
    """Stands for NumPy's _frombuffer, by which protocol 5 writes arrays."""
    array = _Array()
    array.fill(shape, dtype, content, order)
    return array


def _no_bytes() -> bytes:
    """Stands for bytes, by which old protocols write those of an empty array."""
    return b""


def _bytes(content: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, by which old protocols write bytes."""
    if encoding != "latin1":
        raise ValueError("bytes of an unknown encoding")
    return content.encode("latin1")


ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return ALLOWED[module, name]
