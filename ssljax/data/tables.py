"""Reads tables as shops export them: text with any delimiter and encoding, JSON, Parquet and Excel.

All values become text (`columns.as_text`); what a column means is decided by the source that reads it.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ssljax.data.atomic_files import open_regular
from ssljax.data.columns import as_text, shared
from ssljax.data.text import comparable, note, stripped
from ssljax.types import UserError

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
SAMPLE = 2**16  # characters, of whole lines, by which the delimiter is found
# Longer marks first: that of UTF-16 begins that of UTF-32.
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What Western European text in cp1252 does not contain, and other text read as cp1252 does: signs within words, first
# bytes of Japanese characters, and long runs without ASCII.
STRANGE = re.compile(
    r"(?<=[^\W\d_])[\xa1-\xa8\xaa-\xad\xaf\xb1-\xb3\xb5\xb6\xb8-\xbf\xd7\xf7](?=[^\W\d_])"
    r"|[\u0192\u2020\u2021\u02c6\u02dc](?=\S)"
)
RUN = re.compile(r"[^\x00-\x7f]{4,}")
OTHER_ENCODINGS = "cp1250 (Central European), cp1251 (Cyrillic), cp932 (Japanese), gb18030 (Chinese), euc_kr (Korean)"


class Table(dict[str, np.ndarray]):
    """Columns by name, object[n] of str: as the file has them, a missing value blank, a list or an object as JSON."""

    def __init__(self, columns: dict[str, np.ndarray], how: str):
        super().__init__(columns)
        self.how = how
        """how the file was read, for the end of a sentence about a missing column"""


def read_table(path: Path, delimiter: str | None = None, encoding: str | None = None) -> Table:
    """The columns of a file of one of `SUFFIXES`, or of one compressed by gzip (.csv.gz).

    `comparable` makes the names of columns. Columns without a name, or of bytes that are not text, are left out.

    Args:
      path: the file.
      delimiter: of a text table; None finds it.
      encoding: of a text table or JSON; None finds it.

    Raises:
      UserError: naming the line, if the file is not what its name says.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[: -1 if compressed else None][-1:])
    if suffix not in SUFFIXES or not path.is_file():
        raise UserError(
            f"data.path={str(path)!r} is not a catalogue: it must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} "
            "file, which may be compressed as .gz"
        )
    try:
        with open_regular(path) as plain, gzip.open(plain) if compressed else plain as file:
            if suffix == ".parquet":
                return _read_parquet(file, path)
            if suffix == ".xlsx":
                return _read_excel(file, path)
            text, encoding = _decoded(file.read(), encoding, path)
            if suffix in (".csv", ".tsv", ".txt"):
                return _read_csv(text, delimiter, encoding, path)
            return _read_json(text, encoding, path, lines=suffix != ".json")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not whole, or not compressed by gzip ({error})") from error
    except OSError as error:
        raise UserError(f"data.path={str(path)!r} cannot be read: {error.strerror or error}") from error


# ---- encodings


def _decoded(data: bytes, encoding: str | None, path: Path) -> tuple[str, str]:
    """The text and its encoding: that of its byte order mark, or UTF-8, or else cp1252 if that makes sense.

    Single invalid bytes in UTF-8 become lone surrogates, as in names of files.
    """
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except LookupError:
            raise UserError(f"data.encoding={encoding!r} is not known: try utf-8, cp1252 or utf-16") from None
        except UnicodeError as error:
            raise UserError(f"{path}: not {encoding} text ({error}): give another data.encoding") from None
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None) or _without_mark(data)
    if encoding is not None:
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(encoding), encoding
        if not encoding.startswith("utf-8"):
            raise UserError(f"{path}: begins as {encoding} text, and is none further down: is it cut short?")
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode("utf-8"), "utf-8"
    text = data.decode("utf-8", "surrogateescape")
    bad, others = (len(re.findall(of, text)) for of in ("[\udc80-\udcff]", r"[^\x00-\x7f]"))
    if encoding is not None or bad * 2 <= others:
        note(f"{path}: {bad:,} bytes are not UTF-8, and are shown as \ufffd; data.encoding says what the file is in")
        return text.removeprefix("\ufeff"), "utf-8"
    text = _western(data)
    if text is None:
        raise UserError(f"{path}: not UTF-8 text; say by data.encoding what it is in: cp1252, {OTHER_ENCODINGS}")
    note(f"{path}: read as cp1252 (Western European), as it is not UTF-8; data.encoding says otherwise")
    return text, "cp1252"


def _without_mark(data: bytes) -> str | None:
    """UTF-16 without a mark: in Latin letters every other byte is 0. None if it is not."""
    even, odd = data[0:4096:2].count(0), data[1:4096:2].count(0)
    if max(even, odd) * 4 <= len(data[:4096]):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _western(data: bytes) -> str | None:
    """The text in cp1252; None if it is not, or is nonsense, as text in another encoding would be."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    strange = "\0" in text or len(STRANGE.findall(text)) * 20 > len(re.findall(r"[^\x00-\x7f]", text))
    return None if strange or any(len(set(run)) > 2 for run in RUN.findall(text)) else text


# ---- text tables


def _read_csv(text: str, delimiter: str | None, encoding: str, path: Path) -> Table:
    first = 1  # the line at which the table begins
    if said := re.match(r'"?sep=(.)"?\r?\n', text):  # a hint for Excel
        text, first = text[said.end() :], 2
        delimiter = delimiter or said[1]
    if delimiter is None:
        delimiter = _delimiter(text, "\t" if ".tsv" in path.name.lower() else ",")
    else:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n ':
            raise UserError(f"data.delimiter={delimiter!r} must be one character, such as ';', or 'tab'")
    with _fields_of_any_length():
        rows = _rows(text, delimiter, first, path, csv.QUOTE_MINIMAL)
    how = f"{DELIMITERS.get(delimiter, repr(delimiter))}-separated {encoding} with the names in line {first}"
    how += "; data.delimiter and data.encoding change that"
    return _table(((name, values) for name, *values in zip(*rows, strict=True)), path, how, f", line {first}")


def _rows(text: str, delimiter: str, first: int, path: Path, quoting: Literal[0, 3]) -> list[list[str]]:
    """The rows of a text table, all as long as the first, without blank ones."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True, quoting=quoting
    )
    rows: list[list[str]] = []
    while True:
        line = first + reader.line_num  # where the row begins; line breaks in quotes may make it end further down
        try:
            row = next(reader, None)
        except csv.Error as error:
            if delimiter == "\t" and quoting != csv.QUOTE_NONE:  # between tabs, quotes are often just quotes
                return _rows(text, delimiter, first, path, csv.QUOTE_NONE)
            raise UserError(f"{path}, line {line}: {error}; is a quote left open?") from error
        if row is None:
            break
        if not any(map(stripped, row)):
            continue
        width = len(rows[0]) if rows else len(row)
        if len(row) > width and not any(map(stripped, row[width:])):  # delimiters at the end of a line
            row = row[:width]
        if len(row) != width:
            name = DELIMITERS.get(delimiter, repr(delimiter))
            hint = "is the line cut short?" if len(row) < width else f"a {name} in a value needs quotes around it"
            raise UserError(f"{path}, line {line}: {len(row)} values for {width} columns; {hint}")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} is empty: its first line must name the columns")
    return rows


def _delimiter(text: str, first: str) -> str:
    """The delimiter that gives the first rows most columns; `first` if there is only one column.

    One that gives rows of different lengths is taken only if all of them do.
    """
    sample = text if len(text) <= SAMPLE else text[: text.rfind("\n", 0, SAMPLE) + 1] or text[:SAMPLE]

    def columns(delimiter: str) -> tuple[bool, int]:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
        widths = [len(row) for row in reader if any(map(stripped, row))] or [1]
        if len(sample) < len(text):
            widths = widths[: max(1, len(widths) - 1)]  # the last row may be cut in a quote
        return widths[0] > 1 and len(set(widths)) == 1, widths[0]

    with _fields_of_any_length():
        return max([first, *DELIMITERS], key=columns)


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lets `csv` read fields longer than its default limit of 131,072 characters."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---- JSON


def _read_json(text: str, encoding: str, path: Path, *, lines: bool) -> Table:
    """Reads JSON Lines, or one value (see `_rows_of`), whichever of the two the file's name says."""
    rows = None
    if not lines or text.lstrip().startswith("["):
        try:
            rows = _rows_of(json.loads(text))
        except (ValueError, RecursionError) as error:
            lines = lines or ("Extra data" in str(error) and text.lstrip().startswith("{"))
            if not lines:
                raise UserError(f"{path}: not JSON ({error})") from error
    if rows is None and lines:
        rows = list(_lines(text, path))
    if rows is None:
        raise UserError(f'{path}: must be a list of objects such as {{"id": "1"}}, or an object of columns')
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise UserError(f"{path} has no row")
    columns = ((name, [_json_value(row.get(name)) for row in rows]) for name in names)
    return _table(columns, path, f"JSON in {encoding}")


def _json_value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else as_text(value)


def _lines(text: str, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not stripped(line):
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            said = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise UserError(f"{path}, line {number}: not JSON ({said})") from error
        if not isinstance(row, dict):
            raise UserError(f'{path}, line {number}: must be an object such as {{"id": "1"}}')
        yield row


def _rows_of(value: Any) -> list[dict[str, Any]] | None:
    """The rows of [{...}, ...], {"products": [{...}, ...]}, {"1": {...}, ...}, {"id": [...], "title": [...]} or pandas'
    {"id": {"0": ...}, "title": {"0": ...}}; None if it is something else."""
    if _is_rows(value):
        return value
    parts = list(value.values()) if isinstance(value, dict) else []
    if parts and all(isinstance(part, dict) for part in parts):
        first = parts[0].keys()
        if all(map(str.isdecimal, first)) and all(part.keys() == first for part in parts):
            return [{name: part[key] for name, part in value.items()} for key in first]
        return parts
    if len(parts) > 1 and all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    inside = [part for part in parts if part and _is_rows(part)]
    return inside[0] if len(inside) == 1 else None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


# ---- Parquet and Excel


def _read_parquet(file: gzip.GzipFile | BinaryIO, path: Path) -> Table:
    import pyarrow  # slow to import, and only some need it
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    columns = [(name, _parquet_values(column)) for name, column in zip(table.column_names, table.columns, strict=True)]
    bytes_only = ", ".join(name for name, values in columns if values is None)
    how = f"Parquet; bytes, which are left out, are {bytes_only}" if bytes_only else "Parquet"
    return _table(((name, map(as_text, values)) for name, values in columns if values is not None), path, how)


def _parquet_values(column: Any) -> list[Any] | None:
    """The values of a pyarrow.ChunkedArray as Python objects; None if they are bytes that are not text."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _parquet_values(column.cast(kind.value_type))
    if types.is_float32(kind) or types.is_float16(kind):  # .1 stays .1 and does not become .10000000149011612
        short = np.float32 if types.is_float32(kind) else np.float16
        return [value if value is None else float(str(short(value))) for value in column.to_pylist()]
    if _holds_bytes(kind):
        try:
            return column.cast(pyarrow.string()).to_pylist()  # some writers store text as bytes
        except pyarrow.ArrowException:
            return None
    if getattr(kind, "unit", None) == "ns":  # else they would be objects of pandas, which may not be installed
        if types.is_duration(kind):
            column = column.cast(pyarrow.duration("us"), safe=False)
        else:
            us = pyarrow.timestamp("us", kind.tz) if types.is_timestamp(kind) else pyarrow.time64("us")
            with contextlib.suppress(pyarrow.ArrowInvalid):
                column = column.cast(us)
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, LookupError):
        if types.is_string(kind) or types.is_large_string(kind):  # bytes that are not UTF-8
            values = column.cast(pyarrow.large_binary()).to_pylist()
            return [value if value is None else value.decode("utf-8", "surrogateescape") for value in values]
        with contextlib.suppress(pyarrow.ArrowException):  # beyond Python's years or microseconds
            return column.cast(pyarrow.string()).to_pylist()
        return None


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    is_bytes = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(of(kind) for of in is_bytes) or any(_holds_bytes(kind.field(k).type) for k in range(kind.num_fields))


def _read_excel(file: gzip.GzipFile | BinaryIO, path: Path) -> Table:
    """The first sheet; its first row that is not blank names the columns."""
    try:
        import openpyxl  # an extra
    except ImportError:
        raise UserError(f"{path}: .xlsx needs the package openpyxl: pip install 'ssljax[xlsx]'") from None
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some writers state wrong ones
        rows = [[as_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # openpyxl lets through whatever zip and XML raise
        raise UserError(f"{path}: not an Excel file that can be read ({error})") from error
    rows = [row for row in rows if any(map(stripped, row))]
    if not rows:
        raise UserError(f"{path} is empty: the first row of its first sheet must name the columns")
    columns = itertools.zip_longest(*rows, fillvalue="")
    how = f"sheet {sheet.title!r} of {len(book.sheetnames)}"
    return _table(((name, values) for name, *values in columns), path, how, ", row 1")


# ---- what all have in common


def _table(columns: Iterable[tuple[str, Iterable[str]]], path: Path, how: str, where: str = "") -> Table:
    """The table of the columns that have a name; raises UserError if two have the same."""
    table: dict[str, np.ndarray] = {}
    for name, values in columns:
        name = comparable(name)
        if name in table:
            raise UserError(f"{path}{where}: two columns are named {name!r}; rename one")
        if name:
            table[name] = shared(values)
    if not table:
        raise UserError(f"{path}{where}: no column has a name")
    return Table(table, how)
