"""Where a user's files are looked up: from the working directory, or else under the folder of data sets."""

import os
from pathlib import Path

from ssljax.types import UserError


def data_root() -> Path:
    """Where data sets lie: the environment variable SSLJAX_DATA, or ~/.cache/ssljax."""
    return Path(os.environ.get("SSLJAX_DATA") or "~/.cache/ssljax").expanduser()


def find(path: str, field: str = "data.path") -> Path:
    """An existing path, from the working directory or else under the data root; raises UserError with both."""
    here, there = Path(path).expanduser(), data_root() / path
    for candidate in (here, there):
        if os.path.exists(candidate):  # Path.exists raises on a name that is too long
            return candidate
    looked = f"{here.absolute()}" if here.is_absolute() else f"{here.absolute()} and {there}"
    raise UserError(f"{field}={path!r} is not there: looked for {looked} (SSLJAX_DATA sets the folder of data sets)")
