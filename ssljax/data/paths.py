"""Looks up a user's files: in the working directory, or else in the folder of data sets."""

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssljax.types import UserError, short


def data_root() -> Path:
    """Where data sets lie: the environment variable SSLJAX_DATA, or ~/.cache/ssljax."""
    return Path(os.environ.get("SSLJAX_DATA") or "~/.cache/ssljax").expanduser()


def find(path: str, field: str = "data.path") -> Path:
    """An existing path in the working directory or else under the data root; raises UserError naming both."""
    check_no_address(path, field)
    here, there = Path(path).expanduser(), data_root() / path
    for candidate in (existing(Path(), str(here)), existing(data_root(), path)):
        if os.path.exists(candidate):  # Path.exists raises on a name that is too long
            return candidate
    looked = f"{here.absolute()}" if here.is_absolute() else f"{here.absolute()} and {there}"
    raise UserError(f"{field}={path!r} is not there: looked for {looked} (SSLJAX_DATA sets the folder of data sets)")


# https:// (which pathlib turns into https:/), data:, and //cdn.shop.com/
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:|//[\w-]+(\.[\w-]+)*\.[a-z]{2,}/", re.IGNORECASE)


def check_no_address(path: str, field: str) -> None:
    """Raises UserError if `path` is an address, https://... or s3://..., which cannot be read here."""
    if ADDRESS.match(path):
        raise UserError(
            f"{field}={path!r} is an address: download it first, and name the file or folder on this machine"
        )


def existing(folder: Path, name: str) -> Path:
    """The path of a name under a folder, in the form that the file system uses.

    Accents have two forms, composed (NFC) and decomposed (NFD), and catalogues often use another one than the files; on
    old servers names are in cp1252. If no form exists, this is the path as given.
    """
    path = folder / name
    if name.isascii() or os.path.lexists(path):
        return path
    for part in Path(name).parts:
        there = next((folder / form for form in _forms(part) if os.path.lexists(folder / form)), None)
        if there is None:
            return path
        folder = there
    return folder


def _forms(name: str) -> Iterator[str]:
    yield name
    yield unicodedata.normalize("NFC", name)
    yield unicodedata.normalize("NFD", name)
    with contextlib.suppress(UnicodeError):
        yield os.fsdecode(unicodedata.normalize("NFC", name).encode("cp1252"))


def as_path(value: Any, field: str) -> Path:
    """`value` as a path; raises UserError, which names the field, if it is none."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{field}={short(value)} must be a path, such as 'runs/shop'")
    return Path(value)
