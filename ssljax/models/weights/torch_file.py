"""Reads torch files, in the zip and the legacy format, without torch and without running code.

A pickle is a program that calls whatever it names. Even with a list of allowed names, Python's unpickler sets
attributes of what they return, and allocates as much as the file asks for. So this module interprets the few
instructions that tensors need: nothing is imported, and calling a name makes a `_Tensor`, a dict, or nothing.
"""

import dataclasses
import mmap
import pickletools
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

import ml_dtypes
import numpy as np

from ssljax.types import short

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the legacy format."""
STEPS = 1_000_000  # instructions of a pickle: a tensor takes about 30, and each may cost 100 bytes of memory
NAMES = 100_000
LENGTH = 1_000  # of a name, in characters
DEPTH = 32  # of dicts in dicts

_DTYPES = {
    **{name: np.dtype(name) for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")},
    **{name: np.dtype(name) for name in ("bool", "float16", "float32", "float64", "complex64", "complex128")},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
}
_STORAGES = {
    "torch.ByteStorage": _DTYPES["uint8"],
    "torch.CharStorage": _DTYPES["int8"],
    "torch.ShortStorage": _DTYPES["int16"],
    "torch.IntStorage": _DTYPES["int32"],
    "torch.LongStorage": _DTYPES["int64"],
    "torch.BoolStorage": _DTYPES["bool"],
    "torch.HalfStorage": _DTYPES["float16"],
    "torch.BFloat16Storage": _DTYPES["bfloat16"],
    "torch.FloatStorage": _DTYPES["float32"],
    "torch.DoubleStorage": _DTYPES["float64"],
    "torch.ComplexFloatStorage": _DTYPES["complex64"],
    "torch.ComplexDoubleStorage": _DTYPES["complex128"],
    "torch.storage.UntypedStorage": _DTYPES["uint8"],
}
_DICTS = ("collections.OrderedDict", "builtins.dict", "__builtin__.dict")
_NO_TENSORS = {  # other things that checkpoints hold, such as settings and scores; they are dropped
    *("argparse.Namespace", "collections.Counter", "torch.device", "_codecs.encode", "numpy.dtype"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")),
}
_REBUILDERS = {
    *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"),
    *("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.Size"),
}
_KNOWN = {*_STORAGES, *_DICTS, *_NO_TENSORS, *_REBUILDERS, *(f"torch.{name}" for name in _DTYPES)}
_OTHER = object()
"""Stands for values that are dropped."""


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that the pickle would import."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    size: int  # in elements

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    dtype: np.dtype
    offset: int  # this and the strides are in elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        aligned = len(self.shape) == len(self.strides) <= 32
        numbers: tuple[Any, ...] = (self.offset, *self.shape, *self.strides) if aligned else (None,)
        if any(type(n) is not int for n in numbers):
            raise ValueError(f"a tensor has shape {short(self.shape)} and strides {short(self.strides)}")
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        inside = (last + 1) * self.dtype.itemsize <= self.storage.nbytes
        if min(numbers) < 0 or not (inside or 0 in self.shape) or prod(n or 1 for n in self.shape) >= 2**60:
            raise ValueError(
                f"a tensor of shape {short(self.shape)}, strides {short(self.strides)} and offset {short(self.offset)} "
                f"reaches outside its storage of {self.storage.size} values"
            )

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def of(self, content: bytes) -> np.ndarray:
        """The tensor, given its storage's content: a read-only view of it where it is contiguous, else a copy."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        steps = tuple(stride * self.dtype.itemsize for stride in self.strides)
        view = np.ndarray(self.shape, self.dtype, content, self.offset * self.dtype.itemsize, steps)
        return np.ascontiguousarray(view).reshape(self.shape)


def read_zip(archive: ZipFile, size: int, limit: int) -> dict[str, np.ndarray]:
    """The tensors of a file of `size` bytes in the zip format, at most `limit` bytes; raises ValueError if unsound."""
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    folder = pickles[0].removesuffix("data.pkl")
    if len(pickles) > 1 or f"{folder}constants.pkl" in archive.namelist():
        raise ValueError("it is a TorchScript program: save its state_dict() instead")
    members = archive.infolist()
    if any(info.compress_type != ZIP_STORED for info in members) or sum(info.file_size for info in members) > size:
        raise ValueError("its members are compressed or overlap, which torch never writes")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("it comes from a big-endian machine")
    named = _named_tensors(_unpickle(archive.read(pickles[0])), limit)

    def contents(storages: dict[str, _Storage]) -> Iterable[tuple[str, bytes]]:
        for key, storage in storages.items():
            content = archive.read(f"{folder}data/{key}")
            if len(content) != storage.nbytes:
                raise ValueError(f"storage {short(key)} has {len(content)} bytes, and not {storage.nbytes}")
            yield key, content

    return _arrays(named, contents)


def read_legacy(file: BinaryIO, size: int, limit: int) -> dict[str, np.ndarray]:
    """As `read_zip`, of a file in the legacy format: five pickles, and then the content of every storage."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pickles:  # reads no further than the file's end
        if _unpickle(pickles) != MAGIC:
            raise ValueError("it is a pickle that torch did not write")
        _, machine, value, keys = (_unpickle(pickles) for _ in range(4))
        file.seek(pickles.tell())
    if machine.get("little_endian") is not True:
        raise ValueError("it comes from a big-endian machine")
    named = _named_tensors(value, limit)

    def contents(storages: dict[str, _Storage]) -> Iterable[tuple[str, bytes]]:
        if missing := storages.keys() - set(keys):
            raise ValueError(f"storage {short(min(missing))} is missing")
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if key not in storages or count != storages[key].size or storages[key].nbytes > size - file.tell():
                raise ValueError(f"storage {short(key)} is truncated, or its size is not what its tensors say")
            yield key, file.read(storages[key].nbytes)

    return _arrays(named, contents)


def _arrays(
    named: dict[str, _Tensor], contents: Callable[[dict[str, _Storage]], Iterable[tuple[str, bytes]]]
) -> dict[str, np.ndarray]:
    """name → array; every storage is read once, and its tensors that are contiguous share its memory."""
    names: dict[str, list[str]] = {}
    storages: dict[str, _Storage] = {}
    for name, tensor in named.items():
        storage = storages.setdefault(tensor.storage.key, tensor.storage)
        if storage.nbytes != tensor.storage.nbytes:
            raise ValueError(f"storage {short(storage.key)} has two sizes")
        names.setdefault(storage.key, []).append(name)
    arrays = {name: named[name].of(content) for key, content in contents(storages) for name in names[key]}
    return {name: arrays[name] for name in named}


def _named_tensors(value: Any, limit: int) -> dict[str, _Tensor]:
    """Every tensor in nested dicts, lists and tuples, by the path to it; their bytes together are bounded."""
    named: dict[str, _Tensor] = {}
    waiting, steps = [((), value)], 0
    while waiting:
        path, value = waiting.pop()
        steps += 1
        if isinstance(value, dict | list | tuple):
            inside = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [((*path, key), part) for key, part in reversed(list(inside))]
        elif isinstance(value, _Tensor):
            name = "/".join(map(str, path))
            if name in named or not name:
                raise ValueError(
                    f"two of its tensors are named {short(name)}"
                    if name
                    else "it holds a tensor without a name: save a dict"
                )
            named[name] = value
            limit -= value.nbytes
        if steps > STEPS or len(path) > DEPTH or sum(len(str(key)) + 1 for key in path) > LENGTH:
            raise ValueError("its values are nested too deeply, or their names are too long")
        if limit < 0 or len(named) > NAMES:
            raise ValueError("its tensors are far larger than the file")
    return named


def _unpickle(file: Any) -> Any:
    """The value of the pickle at the file's position: dicts, lists, strings, numbers and tensors, all else `_OTHER`."""
    try:
        return _interpret(file)
    except (AttributeError, IndexError, KeyError, TypeError):  # it found other values than it needs
        raise ValueError("its pickle is damaged") from None


def _interpret(file: Any) -> Any:
    stacks: list[list[Any]] = [[]]  # one more for every mark
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        values = stacks.pop()
        if not stacks:
            raise ValueError("its pickle is damaged")
        return values

    steps = 0
    for opcode, *operands, _ in pickletools.genops(file):
        arg: Any = operands[0]
        steps += 1
        stack = stacks[-1]
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stacks.append([])
            case "POP":
                stack.pop() if stack else since_mark()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(arg)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(arg)
            case "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                stack.append(arg)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(_last(stack, count))]
            case "TUPLE":
                values = since_mark()
                stacks[-1].append(tuple(values))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                values = since_mark()
                stacks[-1].append(values)
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS":
                values = since_mark()
                _extend(stacks[-1][-1], values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = since_mark()
                stacks[-1].append({})
                _update(stacks[-1][-1], values)
            case "SETITEM":
                key, value = _last(stack, 2)
                del stack[-2:]
                _update(stack[-1], [key, value])
            case "SETITEMS":
                values = since_mark()
                _update(stacks[-1][-1], values)
            case "EMPTY_SET":
                stack.append(_OTHER)
            case "FROZENSET":
                since_mark()
                stacks[-1].append(_OTHER)
            case "ADDITEMS":
                since_mark()
            case "PUT" | "BINPUT" | "LONG_BINPUT" if arg <= STEPS:
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_global(*arg.split(" ", 1)))
            case "STACK_GLOBAL":
                module, name = _last(stack, 2)
                stack[-2:] = [_global(module, name)]
            case "REDUCE" | "NEWOBJ":
                function, args = _last(stack, 2)
                steps += len(args[0]) if args and isinstance(args[0], list) else 0
                stack[-2:] = [_call(function, args)]
            case "BUILD":  # would set attributes
                stack.pop()
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"its pickle has the instruction {name}, which no tensor needs")
        if steps > STEPS:
            raise ValueError(f"its pickle has more than {STEPS} instructions")


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("its pickle is damaged")
    return stack[-count:]


def _global(module: Any, name: Any) -> _Global:
    full = f"{module}.{name}"
    if full not in _KNOWN:
        raise ValueError(f"it names {full!r:.100}, which is not a tensor: save state_dict() alone")
    return _Global(full)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target += values
    elif target is not _OTHER:
        raise ValueError("its pickle is damaged")


def _update(target: Any, values: list[Any]) -> None:
    """Sets alternating keys and values. Keys are strings or small numbers: hashes of others can be made to collide."""
    if target is _OTHER:
        return
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 2**60):
            raise ValueError("a dict has a key that is neither a string nor a small number")
        target[key] = value


def _call(function: Any, arguments: Any) -> Any:
    """The value of a call of a known name."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple) or len(arguments) > 16:
        raise ValueError(f"its pickle calls {short(function)}, which is not a function")
    args: Sequence[Any] = [*arguments]
    match function.name:
        case name if name in _DICTS:
            made: dict[Any, Any] = {}
            pairs = args[0] if args else []
            if not isinstance(pairs, list):  # pickle writes no other, and only the length of a list was counted
                raise ValueError("its pickle is damaged")
            for key, value in pairs:
                _update(made, [key, value])
            return made
        case "torch.Size":
            return args[0]
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state":
            return args[0]
        case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2":
            if any(args[6:]):
                raise ValueError("a tensor is a lazy conjugate or negative: save its resolve_conj().resolve_neg()")
            return _tensor(args, args[0].dtype)
        case "torch._utils._rebuild_tensor_v3":
            return _tensor(args, _DTYPES[args[6].name.removeprefix("torch.")])
        case name if name in _NO_TENSORS:
            return _OTHER
        case name:
            raise ValueError(f"its pickle calls {name}, which is not a function")


def _tensor(args: Sequence[Any], dtype: np.dtype) -> _Tensor:
    storage, offset, shape, strides = args[:4]
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor has no storage, shape or strides")
    return _Tensor(storage, dtype, offset, shape, strides)


def _storage(identity: Any) -> _Storage:
    """The storage of a persistent id: ("storage", its type, its key in the file, a device, its size in elements)."""
    match identity:
        case ("storage", _Global(name), str(key), str(), int(size), *_) if name in _STORAGES and 0 <= size < 2**60:
            if len(identity) > 6 or any(identity[5:]):
                raise ValueError("it holds views of storages, which torch has not written since 0.4: save it again")
            return _Storage(key, _STORAGES[name], size)
    raise ValueError(f"its pickle refers to {short(identity)}, which is not the storage of a tensor")
