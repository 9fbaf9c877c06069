"""Photos that cannot be read: a list of them with the reasons, and a limit to their number."""

import contextlib
import csv
from pathlib import Path
from typing import Any, NamedTuple

from ssljax.data.text import csv_cell
from ssljax.types import UserError

COLUMNS = ("id", "photo", "reason")


class BadPhoto(NamedTuple):
    """A photo that cannot be read."""

    row: int
    """in the Items"""
    name: str
    """its path; blank if it is not a file"""
    reason: str


class BadInputs:
    """The bad photos of one split, appended to a CSV file (id, photo, reason), each once, even if a run is resumed.

    `csv_cell` makes the cells of the file safe for spreadsheets and terminals.

    Args:
        path: the file, which several splits of a data set, and runs on it, may share; None keeps no list.
        total: photos in the split.
        limit: the share of them that may be bad.
    """

    def __init__(self, path: Path | None, *, total: int, limit: float = 0.01):
        self._path, self._total, self._limit = path, total, limit
        self._met: dict[tuple[str, str], str] = {}
        self._listed: set[tuple[str, ...]] = set()
        self._file_size = 0

    @property
    def count(self) -> int:
        """Bad photos of this split so far. A resumed run counts anew, and meets all of them again within an epoch."""
        return len(self._met)

    def record(self, id: Any, photo: str, reason: str) -> None:
        """Adds a bad photo to the list unless it is there."""
        key = (str(id), photo)
        if key in self._met:
            return
        self._met[key] = reason
        if self._path is None:
            return
        self._read(self._path)
        row = tuple(map(csv_cell, (*key, reason)))
        if row[:2] not in self._listed:
            self._append(self._path, row)

    def check(self, count: int | None = None) -> None:
        """Raises UserError if more than the limit are bad: of `count`, where several processes share the photos."""
        count = self.count if count is None else count
        if count <= self._limit * self._total:
            return
        first = "; ".join(f"{photo or id}: {reason}" for (id, photo), reason in list(self._met.items())[:3])
        listed = "" if self._path is None else f"; all that were met are listed in {self._path}"
        raise UserError(
            f"{count} of {self._total} photos cannot be read, more than max_bad_share={self._limit} allows "
            f"({first}{listed}): mend or remove them, or allow more. There may be others, as it stopped here"
        )

    def _read(self, path: Path) -> None:
        """Reads the file again if it has changed: it may also list another split's photos."""
        if path.exists() and path.stat().st_size != self._file_size:
            with (
                path.open(newline="", encoding="utf-8", errors="replace") as file,
                contextlib.suppress(csv.Error),
            ):
                self._listed = {tuple(row[:2]) for row in csv.reader(file)}
            self._file_size = path.stat().st_size

    def _append(self, path: Path, row: tuple[str, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(COLUMNS)
            writer.writerow(row)
        self._listed.add(row[:2])
        self._file_size = path.stat().st_size
