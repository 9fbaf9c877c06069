"""Catalogue: photos listed in a table (CSV, JSON, Parquet, Excel), with columns for labels, listings, titles, ..."""

import ast
import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np

from ssljax.data.columns import encode, encode_attributes, encode_label, listing_keys, raw_text, shared, text
from ssljax.data.decode import suffixes
from ssljax.data.items import Items, Paths, Shares, hashed_splits, split_rows
from ssljax.data.paths import ADDRESS, find
from ssljax.data.tables import Table, read_table
from ssljax.data.text import did_you_mean, readable, stripped
from ssljax.types import UserError

FIELD = re.compile(r"\{([^{}]*)\}")
ELSEWHERE = re.compile(f"{ADDRESS.pattern}|[a-z]:/", re.IGNORECASE)  # a drive of Windows, too
BETWEEN_LINES, BETWEEN_PHOTOS = re.compile(r"[|\n\r]"), re.compile(r"[|;,\n\r]")


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A catalogue file with one row per photo, or per item with several photos. All columns are read as text.

    Blanks around ids, labels and paths do not count. Text gets one Unicode form (NFC), and what is not text (half an
    emoji) is replaced. Paths of photos are taken as they are written, with / or \\ between folders.
    """

    path: str
    """the .csv, .tsv, .txt, .json, .jsonl, .ndjson, .parquet or .xlsx file, as it is or as .gz; a relative path is
    looked up from here, then under SSLJAX_DATA"""
    images: str | tuple[str, ...] = "images/{id}.jpg"
    """where a row's photos are, relative to the catalogue's folder: a column of paths, or a template such as
    images/{id}.jpg with columns in braces; several of them, or a column with several paths in a cell (a list, or
    a.jpg|b.jpg, also with ; or ,). Of several photos each becomes a row with the id <id>#<n>, n from 0, blank ones are
    left out, and the row is their listing (unless `listing` names a column)"""
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
    delimiter: str | None = None
    """what is between the values of a .csv, .tsv or .txt file, such as ";" or "tab"; None finds it"""
    encoding: str | None = None
    """of a file of text, such as cp1252; None takes UTF-8, UTF-16, or else cp1252"""

    def load(self, split: str) -> Items:
        """The photos of a split; files are opened only when a photo is read. Raises UserError as Source does."""
        items, keys = self._read()
        if self.split in items.columns:
            splits = text(map(stripped, items.columns[self.split]))
        else:
            splits = hashed_splits(keys, self.shares)
        return items.select(split_rows(splits, split))

    def load_all(self) -> Items:
        """The photos of all splits, and those in none; raises UserError as `load` does."""
        return self._read()[0]

    def _read(self) -> tuple[Items, np.ndarray]:
        """All photos, and object[n], what those share that must fall into one split."""
        path = find(self.path)
        file = read_table(path, self.delimiter, self.encoding)
        self._check_columns(file, path)
        paths, rows, number = self._photos(file)
        # only now, after the paths of photos are made: a name of a file may be any bytes
        table = {name: shared(values, readable)[rows] for name, values in file.items()}
        own = text(map(stripped, table[self.id]))
        ids = text(f"{i}#{n}" if i and n >= 0 else i for i, n in zip(own, number, strict=True))
        keys = None
        if self.listing or (number >= 0).any():
            keys = listing_keys(table[self.listing], own) if self.listing else own
        label, label_names = encode_label(table[self.label], self.label) if self.label else (None, ())
        attributes, attribute_values = encode_attributes(table[name] for name in self.attributes)
        items = Items(
            ids=ids,
            photos=Paths(path.parent, paths),
            columns=table | ({"title": table[self.title]} if self.title else {}),
            label=label,
            listing=None if keys is None else encode(keys)[0],
            attributes=attributes,
            label_names=label_names,
            attribute_names=tuple(self.attributes),
            attribute_values=attribute_values,
        )
        return items, ids if keys is None else keys

    def _check_columns(self, table: Table, path: Path) -> None:
        """Raises UserError if a field names a column that the file does not have, or the file has no row."""
        fields = [("id", self.id), ("label", self.label), ("listing", self.listing), ("title", self.title)]
        fields += [("attributes", name) for name in self.attributes]
        fields += [("images", name) for template in self._templates(table) for name in template[1::2]]
        if self.split != "split":  # the default need not exist, a name that the user gives must
            fields.append(("split", self.split))
        for field, name in fields:
            if name is not None and name not in table:
                raise UserError(
                    f"data.{field}={name!r} is not a column of {path.name}{did_you_mean(name, list(table))} "
                    f"(read as {table.how})"
                )
        if not len(table[self.id]):
            raise UserError(f"data.path={str(path)!r} has columns but not one row")

    def _templates(self, table: Table) -> list[list[str]]:
        """For each photo of a row [text, column, text, column, ..., text]: joined, they give its path."""
        images = (self.images,) if isinstance(self.images, str) else self.images
        if not images:
            raise UserError("data.images=() names no photo: give a column of paths or a template like images/{id}.jpg")
        return [["", image, ""] if image in table or "{" not in image else FIELD.split(image) for image in images]

    def _photos(self, table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Paths object[n], their rows i[n], and the number i[n] of each within its row, -1 for an only one."""
        paths, rows, numbers = [], [], []
        one_each = isinstance(self.images, str)
        for row, cells in enumerate(
            zip(*(_cells(template, table) for template in self._templates(table)), strict=True)
        ):
            number = -1 if one_each and len(cells[0]) == 1 else 0
            for cell in cells:
                for path in cell:
                    if path or one_each:  # a row without a photo counts as a missing photo
                        paths.append(path)
                        rows.append(row)
                        numbers.append(number)
                    number += 1
        if not any(paths):
            raise UserError(f"data.images={self.images!r} is blank in every row: there is not one photo")
        away = ADDRESS if os.name == "nt" else ELSEWHERE
        if elsewhere := [path for path in paths if away.match(path)]:
            raise UserError(
                f"data.images: {len(elsewhere):,} of {len(paths):,} photos are not on this machine, such as "
                f"{elsewhere[0]!r}: photos are read from files, so download or copy them, and put the paths of "
                "these in the place of the addresses"
            )
        return raw_text(paths), np.array(rows), np.array(numbers)


def _cells(template: list[str], table: Table) -> list[list[str]]:
    """For each row the paths that a template gives; one blank path if it gives none."""
    parts = [
        map(stripped, table[part]) if k % 2 else [part] * len(next(iter(table.values())))
        for k, part in enumerate(template)
    ]
    if len(template) != 3:
        return [[_with_slashes("".join(path))] for path in zip(*parts, strict=True)]
    before, _, after = template
    return [[_with_slashes(f"{before}{name}{after}") if name else "" for name in _several(cell)] for cell in parts[1]]


def _with_slashes(path: str) -> str:
    """A path with the separators of this machine, if it was written on Windows."""
    return path.replace("\\", "/") if os.sep == "/" else path


def _several(cell: str) -> list[str]:
    """The names of photos in a cell: a list in JSON or Python, or names separated by |, ;, a comma or a line break."""
    if cell[:1] + cell[-1:] in ("[]", "()"):
        for parse in (json.loads, _side_by_side, ast.literal_eval):
            try:
                names = parse(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if all(name is None or isinstance(name, str) for name in names):
                return [stripped(name) for name in names if name and stripped(name)] or [""]
    # Names may contain commas and semicolons, so there all parts must be names of photos; with the others one suffices.
    for between, enough in ((BETWEEN_LINES, any), (BETWEEN_PHOTOS, all)):
        inside = cell[1:-1] if cell[:1] == "[" and cell[-1:] == "]" else cell
        names = [name for part in between.split(inside) if (name := stripped(part))]
        if len(names) > 1 and enough(os.path.splitext(name)[1].lower() in suffixes() for name in names):
            return names
    return [cell]


def _side_by_side(cell: str) -> list[str]:
    """The texts of an array as NumPy prints it, ['a.jpg' 'b.jpg']; raises ValueError if the cell is not one."""
    if not re.search(r"""(['"])\s+\1""", cell) or "," in cell:
        raise ValueError
    return [name for _, name in re.findall(r"""(['"])(.*?)\1""", cell)]
