"""Reads the published ground truth of revisited Oxford and Paris, gnd_roxford5k.pkl and gnd_rparis6k.pkl.

The files are pickles, and a pickle can run any program. This reader therefore calls nothing that a file names: the
few names that NumPy's arrays need are replaced by functions of this file, which make arrays of plain numbers from
bytes, and any other name is refused. To allow NumPy's own functions is not enough: damaged state crashes the process.
"""

import dataclasses
import io
import math
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssljax.data.atomic_files import read_bytes
from ssljax.types import UserError

LARGEST = 2**26  # bytes: the published files are a few hundred kilobytes
LISTS = ("easy", "hard", "junk")


@dataclasses.dataclass(frozen=True, eq=False)
class GroundTruth:
    """For Q queries the photos that are right, right but hard to see, and neither right nor wrong (junk).

    Each list has Q arrays i64, rows of `gallery`.
    """

    gallery: tuple[str, ...]
    """names of the photos that are searched, without extension"""
    queries: tuple[str, ...]
    """names of the query photos"""
    boxes: np.ndarray
    """f64[Q, 4], the left, upper, right and lower edge of the query in its photo, px"""
    easy: tuple[np.ndarray, ...]
    hard: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]


def read_ground_truth(path: Path) -> GroundTruth:
    """Reads the file; raises UserError if it is missing, damaged, something else, or names anything to run."""
    remedy = "use gnd_roxford5k.pkl or gnd_rparis6k.pkl as published"
    try:
        content = read_bytes(path, LARGEST)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    try:
        return _ground_truth(_Unpickler(content).load())
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path} is not a ground truth ({type(error).__name__}: {error}): {remedy}") from None


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
        raise ValueError(f"a list holds something else than rows of the {count} photos")
    return rows.astype(np.int64)


def _values(value: Any) -> Any:
    """A list of numbers, or an array."""
    if isinstance(value, _Array):
        return value.array
    numbers = [x.array[()] if isinstance(x, _Array) else x for x in value]
    if not all(isinstance(x, int | float | np.number) for x in numbers):
        raise ValueError("a list holds something else than numbers")
    return numbers


class _Dtype:
    """In place of numpy.dtype: a plain number, such as "i8"."""

    def __init__(self, name: str, *_: Any):
        kind, size = name[:1], name[1:]
        if kind not in "iuf" or size not in ("1", "2", "4", "8"):
            raise ValueError("an array of something else than numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array of an unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """In place of numpy.ndarray, and of a NumPy number, as an array without axes."""

    array = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_column, content = state
        self.fill(shape, dtype, content, "F" if by_column else "C")

    def fill(self, shape: tuple[int, ...], dtype: _Dtype, content: Any, order: Literal["C", "F"] = "C") -> None:
        content = content.encode("latin1") if isinstance(content, str) else content  # Python 2's bytes are read as text
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise ValueError("an array is shorter or longer than its shape")
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


def _empty(*_: Any) -> _Array:
    """In place of NumPy's _reconstruct: the array's content comes later, as its state."""
    return _Array()


def _scalar(dtype: _Dtype, content: Any) -> _Array:
    """In place of NumPy's scalar."""
    number = _Array()
    number.fill((), dtype, content)
    return number


def _from_buffer(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"], *_: Any) -> _Array:
    """In place of NumPy's _frombuffer, with which protocol 5 writes arrays."""
    array = _Array()
    array.fill(shape, dtype, content, order)
    return array


def _no_bytes() -> bytes:
    """In place of bytes, with which old protocols write an empty array."""
    return b""


def _bytes(content: str, encoding: str) -> bytes:
    """In place of _codecs.encode, with which old protocols write bytes."""
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
