"""Reads weights files without running code: safetensors, both torch formats and NumPy's .npz, told by content."""

import os
from math import prod
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from zipfile import ZipFile

import ml_dtypes
import numpy as np
from safetensors import safe_open

from ssljax.models.weights import torch_file
from ssljax.types import UserError, short


class WeightsFile(NamedTuple):
    """The tensors of a file."""

    tensors: dict[str, np.ndarray]
    """by name, in the file's order; names in nested dicts are joined by "/", as in state_dict/conv1.weight. They keep
    their dtype (bfloat16 is that of ml_dtypes). Those of torch files are read-only."""
    metadata: dict[str, str]
    """what a safetensors file says about itself; empty for the other formats"""
    format: str
    """"safetensors", "torch" or "npz\""""


def read_weights(path: str | Path) -> WeightsFile:
    """Reads the tensors of a weights file, and leaves out its other values.

    Raises:
        UserError: the file does not exist, has another format, or is damaged; or reading it would run code, or take
            far more memory than its size.
    """
    if "://" in str(path):
        raise UserError(f"{path} is a URL: download the file, and give its path")
    if not os.path.isfile(path):
        raise UserError(
            f"{path} {'is a folder' if os.path.isdir(path) else 'does not exist'}: give the path of a weights file"
        )
    try:
        with open(path, "rb") as file:
            return _read(file, path)
    # On damaged files NumPy, zipfile, safetensors and pickletools raise whatever they stumble over.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as weights: {why:.500}") from None


def _read(file: BinaryIO, path: str | Path) -> WeightsFile:
    size, head = os.fstat(file.fileno()).st_size, file.read(32)
    file.seek(0)
    limit = 8 * size + 2**26  # bytes; tensors may be compressed, or share a storage
    if not head:
        raise ValueError("it is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer: fetch the file with `git lfs pull`")
    if head[8:9] == b"{":  # before it is the length of the header, of which any byte may come first
        with safe_open(path, framework="numpy") as opened:
            names = list(opened.keys())
            return _found({name: opened.get_tensor(name) for name in names}, "safetensors", opened.metadata())
    if head.startswith(b"\x80"):
        return _found(torch_file.read_legacy(file, size, limit), "torch")
    if head.startswith(b"PK\x03\x04"):
        with ZipFile(file) as archive:
            names = [name.replace("\\", "/") for name in archive.namelist()]
            if len(set(names)) < len(names) or any({"..", "/"} & {*PurePosixPath(name).parts} for name in names):
                raise ValueError("two of its members have one name, or a name leads out of the archive")
            if sum(info.file_size for info in archive.infolist()) > limit:
                raise ValueError("its members are far larger than the file")
            if any(PurePosixPath(name).name == "data.pkl" for name in names):
                return _found(torch_file.read_zip(archive, size, limit), "torch")
            if all(name.endswith(".npy") for name in names):
                return _found(_npz(archive), "npz")
    raise ValueError("it is not a safetensors, torch or .npz file")


def _found(tensors: dict[str, np.ndarray], format: str, metadata: dict[str, str] | None = None) -> WeightsFile:
    if not tensors:
        raise ValueError("it has no tensors")
    return WeightsFile(tensors, metadata or {}, format)


def _npz(archive: ZipFile) -> dict[str, np.ndarray]:
    """Arrays by name, without strings; NumPy writes bfloat16 as two raw bytes."""
    arrays = {}
    for info in archive.infolist():
        with archive.open(info) as file:
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[np.lib.format.read_magic(file)]
            shape, _, dtype = read_header(file)
            if dtype.hasobject:
                raise ValueError(f"{info.filename} holds Python objects, which could run code")
            if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != info.file_size - file.tell():
                raise ValueError(f"{info.filename} is not as large as its shape {short(shape)} says")
        if dtype.kind not in "biufc" and dtype != "V2":
            continue
        with archive.open(info) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        arrays[info.filename.removesuffix(".npy")] = array.view(ml_dtypes.bfloat16) if dtype == "V2" else array
    return arrays
