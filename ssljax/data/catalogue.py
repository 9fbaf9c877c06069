"""Catalogue: photos listed in a CSV, Parquet or JSONL file, with columns for labels, listings, attributes, titles."""

import csv
import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ssljax.data.items import (
    Items,
    Paths,
    Shares,
    did_you_mean,
    encode,
    encode_label,
    hashed_splits,
    listing_keys,
    split_rows,
    text,
)
from ssljax.paths import find
from ssljax.types import UserError

Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A catalogue file with a row a photo, or a row an item with several photos. All columns are read as text."""

    path: str
    """the .csv, .parquet or .jsonl file; a relative path is looked up from here, then under SSLJAX_DATA"""
    images: str | tuple[str, ...] = "images/{id}.jpg"
    """where a row's photos are, relative to the catalogue's folder: a column of paths, or a template such as
    images/{id}.jpg with columns in braces. Several of them: each photo becomes a row with the id <id>#<n>, n from 0,
    blank ones are left out, and the row is their listing (unless `listing` names a column)"""
    id: str = "id"
    """the column of unique ids"""
    label: str | None = None
    """the column of class labels; blank = missing"""
    listing: str | None = None
    """the column that photos of one listing share (case and outer blanks ignored); blank = a listing of its own"""
    attributes: tuple[str, ...] = ()
    """columns of attributes; blank = missing"""
    title: str | None = None
    """the column of titles"""
    split: str | None = "split"
    """the column that says train, val or test (rows with another value or none are in none of these). Without one
    the rows are split by a hash of the listing, or else of the id"""
    shares: Shares = (0.8, 0.1, 0.1)
    """the shares of train, val and test in a catalogue without a column of splits"""

    def load(self, split: str) -> Items:
        """The photos of a split; files are opened only when a photo is read. Raises UserError as Source does."""
        items, keys = self._read()
        if self.split in items.columns:
            splits = text(v.strip() for v in items.columns[self.split])
        else:
            splits = hashed_splits(keys, self.shares)
        return items.select(split_rows(splits, split))

    def load_all(self) -> Items:
        """The photos of all splits and of none; raises UserError as `load` does."""
        return self._read()[0]

    def _read(self) -> tuple[Items, np.ndarray]:
        """All photos, and what those share that must fall into one split."""
        path = find(self.path)
        table = read_table(path)
        self._check_columns(table, path)
        paths, table, number = self._photos(table)
        ids = text(v.strip() for v in table[self.id])
        keys = None
        if self.listing or number is not None:
            keys = listing_keys(table[self.listing], ids) if self.listing else ids
        if number is not None:
            ids = text(f"{i}#{n}" for i, n in zip(ids, number, strict=True))
        label, label_names = encode_label(table[self.label], self.label) if self.label else (None, ())
        coded = [encode(table[name]) for name in self.attributes]
        items = Items(
            ids=ids,
            photos=Paths(path.parent, paths),
            columns=table | ({"title": table[self.title]} if self.title else {}),
            label=label,
            listing=None if keys is None else encode(keys)[0],
            attributes=np.stack([codes for codes, _ in coded], axis=1) if coded else None,
            label_names=label_names,
            attribute_names=tuple(self.attributes),
            attribute_values=tuple(values for _, values in coded),
        )
        return items, ids if keys is None else keys

    def _check_columns(self, table: Table, path: Path) -> None:
        """Raises UserError if a field names a column that the file does not have, or the file has no row."""
        fields = [("id", self.id), ("label", self.label), ("listing", self.listing), ("title", self.title)]
        fields += [("attributes", name) for name in self.attributes]
        fields += [("images", name) for template in self._templates(table) for name in template[1::2]]
        if self.split != "split":  # the default is a wish, a name given by the user is not
            fields.append(("split", self.split))
        for field, name in fields:
            if name is not None and name not in table:
                raise UserError(
                    f"data.{field}={name!r} is not a column of {path.name}{did_you_mean(name, list(table))}"
                )
        if not len(table[self.id]):
            raise UserError(f"data.path={str(path)!r} has columns but not one row")

    def _templates(self, table: Table) -> list[list[str]]:
        """For each photo of a row [text, column, text, column, ..., text], which joined give its path."""
        images = (self.images,) if isinstance(self.images, str) else self.images
        if not images:
            raise UserError("data.images=() names no photo: give a column of paths or a template like images/{id}.jpg")
        return [["", image, ""] if image in table or "{" not in image else _FIELD.split(image) for image in images]

    def _photos(self, table: Table) -> tuple[np.ndarray, Table, np.ndarray | None]:
        """A row a photo: its path, the columns, and which of its item's photos it is (None if items have one each)."""
        paths = []
        for template in self._templates(table):
            parts = [table[part] if k % 2 else [part] * len(table[self.id]) for k, part in enumerate(template)]
            paths.append(text(map("".join, zip(*parts, strict=True))))
            if len(template) == 3:
                blank = text(v.strip() for v in table[template[1]]) == ""
                paths[-1][blank] = ""
        if isinstance(self.images, str):
            return paths[0], table, None
        grid = np.stack(paths, axis=1)  # [rows, photos]
        rows, numbers = np.nonzero(grid != "")
        return grid[rows, numbers], {name: values[rows] for name, values in table.items()}, numbers


_FIELD = re.compile(r"\{([^{}]*)\}")


def read_table(path: Path) -> Table:
    """The columns of a .csv, .parquet or .jsonl file as text, object[n] of str; a missing value is blank.

    Raises UserError, with the line, if the file is not what its name says.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers or path.is_dir():
        raise UserError(f"data.path={str(path)!r} is not a catalogue: it must be a .csv, .parquet or .jsonl file")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"data.path={str(path)!r} cannot be read: {error.strerror or error}") from error


def _read_csv(path: Path) -> Table:
    with open(path, newline="", encoding="utf-8-sig") as file:
        names, *rows = _rows(file, path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}, line 1: two columns are named {twice!r}; rename one")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: _shared(values) for name, values in zip(names, columns, strict=True)}


def _rows(file: TextIO, path: Path) -> list[list[str]]:
    """The rows of a CSV file, all as long as the first; blank lines are left out."""
    reader = csv.reader(file, strict=True)
    rows: list[list[str]] = []
    while True:
        line = reader.line_num + 1  # where the row begins: line breaks in quotes may end it further down
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: {error}; is a quote left open?") from error
        if row is None:
            break
        if row and rows and len(row) != len(rows[0]):
            hint = "is the line cut short?" if len(row) < len(rows[0]) else "a comma in a value needs quotes around it"
            raise UserError(f"{path}, line {line}: {len(row)} values for {len(rows[0])} columns; {hint}")
        if row:
            rows.append(row)
    if not rows:
        raise UserError(f"{path} is empty: its first line must name the columns")
    return rows


def _read_jsonl(path: Path) -> Table:
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(row, dict):
                raise UserError(f'{path}, line {number}: must be an object such as {{"id": "1"}}')
            rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise UserError(f"{path} has no row")
    return {name: _shared(_as_text(row.get(name)) for row in rows) for name in names}


def _read_parquet(path: Path) -> Table:
    import pyarrow  # slow to import, and only some need it
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    return {
        name: _shared(map(_as_text, column.to_pylist()))
        for name, column in zip(table.column_names, table.columns, strict=True)
        if not pyarrow.types.is_nested(column.type) and not _is_binary(column.type)
    }


def _is_binary(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _as_text(value: Any) -> str:
    if value is None or value != value:  # NaN, which writers of Parquet put for a missing number
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers becomes float as soon as one is missing
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _shared(values: Iterable[str]) -> np.ndarray:
    """object[n] of str where equal values are one object: catalogues repeat themselves, and this is kept in memory."""
    once: dict[str, str] = {}
    return text(once.setdefault(value, value) for value in values)
