"""Embeddings of a split: vectors, with the ids and everything else that evaluation and pages need of their items."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssljax.data.atomic_files import open_regular, read_as, replace_file
from ssljax.data.columns import check_numbers, raw_text, text
from ssljax.data.items import Items, check_unique
from ssljax.data.text import valid
from ssljax.evaluation.vectors import checked
from ssljax.types import UserError

SCHEMA = 1
PARQUET_KEY = b"ssljax"
BASELINE = "raw pixels"  # the name of `raw_pixels` in tables and pages


@dataclasses.dataclass(frozen=True)
class Origin:
    """The network that made embeddings: only embeddings by the same network can be compared."""

    run: str
    """the run folder, which may have been moved since"""
    weights: str
    """SHA-256 of the parameters: another one if the run was trained again since"""
    network: str = "student"
    """or "teacher": which of the run's networks"""


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """One row a photo, all fields aligned.

    Raises UserError if the lengths differ, a vector is not finite, or a label or listing does not fit 32 bits.
    """

    ids: np.ndarray
    """object[n] of str"""
    vectors: np.ndarray
    """f32[n, D], as the encoder gave them: not normalised"""
    columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """the source's columns as text, object[n] of str; blank = missing"""
    label: np.ndarray | None = None
    """i32[n], -1 = missing"""
    listing: np.ndarray | None = None
    """i32[n]: photos of one listing share a number"""
    photos: np.ndarray | None = None
    """object[n] of str: the photos' paths, with bytes that are not UTF-8 as lone surrogates; None if photos are not
    files"""
    origin: Origin | None = None
    """None if unknown"""
    title_vectors: np.ndarray | None = None
    """f32[n, D], the titles in the same space, of a network that embeds photos and titles apart; else None"""

    def __post_init__(self):
        for name in ("vectors", "title_vectors"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked(getattr(self, name), "embeddings"))
        for name in ("label", "listing"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_numbers(f"embeddings: {name}", getattr(self, name), 1))
        fields = self._arrays | {"photos": self.photos}
        for name, values in (fields | self.columns).items():
            if values is not None and len(values) != len(self.ids):
                raise UserError(f"embeddings: {name} has {len(values)} rows and ids have {len(self.ids)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def of_titles(self) -> "Embeddings":
        """The same items with their titles' vectors in place of the photos'; there must be some."""
        assert self.title_vectors is not None
        return dataclasses.replace(self, vectors=self.title_vectors, title_vectors=None)

    def select(self, rows: np.ndarray) -> "Embeddings":
        """The items at `rows`: i[m] or bool[n]."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        there = {"photos": self.photos, **self._arrays}
        chosen: dict[str, Any] = {name: None if values is None else values[rows] for name, values in there.items()}
        return Embeddings(self.ids[rows], columns=columns, **chosen)

    @classmethod
    def of(cls, items: Items, vectors: np.ndarray, title_vectors: np.ndarray | None = None) -> "Embeddings":
        """The embeddings of `items`, with vectors f32[n, D] in the same order."""
        photos = None
        if isinstance(items.photos[0], os.PathLike):
            photos = raw_text(os.path.abspath(photo) for photo in items.photos)
        return cls(
            items.ids,
            vectors,
            dict(items.columns),
            items.label,
            items.listing,
            photos,
            title_vectors=title_vectors,
        )

    @classmethod
    def unseen(cls, items: Items, titles: bool = False) -> "Embeddings":
        """Items that are not embedded yet, with vectors of zeros: enough to check what is relevant to what.

        titles: whether titles will be embedded beside.
        """
        zeros = np.zeros((len(items), 1), np.float32)
        return cls.of(items, zeros, zeros if titles else None)

    @classmethod
    def joined(cls, parts: Sequence["Embeddings"]) -> "Embeddings":
        """All rows of several parts; labels and listings agree only within one data set.

        A column that some parts lack is blank there; labels, listings and photos are kept if all parts have them.
        Raises UserError if an id comes twice, or if the parts are of different networks.
        """
        parts = list(parts)
        if len({part.vectors.shape[1] for part in parts}) > 1 or len({part.origin for part in parts}) > 1:
            raise UserError("embeddings of different networks cannot be compared: embed everything by one run")

        def all_of(name: str) -> np.ndarray | None:
            values = [getattr(part, name) for part in parts]
            return None if any(v is None for v in values) else np.concatenate(values)

        ids, vectors = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "vectors"))
        check_unique(ids)
        names = dict.fromkeys(name for part in parts for name in part.columns)
        blank = {name: [part.columns.get(name, text([""] * len(part))) for part in parts] for name in names}
        columns = {name: np.concatenate(values) for name, values in blank.items()}
        aligned = {name: all_of(name) for name in ("label", "listing", "photos", "title_vectors")}
        return cls(ids, vectors, columns, origin=parts[0].origin, **aligned)

    def save(self, path: Path) -> None:
        """Writes one file, .parquet or .npz (without pickle), and replaces an existing one only when it is complete.

        The Parquet file has the columns id, vector (a list of D float32), where there are any title_vector, photo,
        label and listing (numbers), and the columns of the source; a name that is taken gets a "_". Bytes of a photo's
        path that are not UTF-8 are replaced in its column and kept in the metadata for `load`.
        """
        path = Path(path)
        replace_file(path, self._write_parquet if path.suffix == ".parquet" else self._write_npz)

    def _write_npz(self, file: BinaryIO) -> None:
        arrays = {name: values for name, values in self._arrays.items() if values is not None}
        words = {
            "schema": SCHEMA,
            "arrays": list(arrays),
            "ids": _strings(self.ids),
            "columns": {name: _strings(values) for name, values in self.columns.items()},
            "photos": None if self.photos is None else _strings(self.photos),
            "origin": self.origin and dataclasses.asdict(self.origin),
        }
        # text as JSON: NumPy's fixed-width text takes four bytes a character, at the length of the longest value
        arrays["text"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
        np.savez(file, allow_pickle=False, **arrays)

    def _write_parquet(self, file: BinaryIO) -> None:
        import pyarrow  # slow to import, and rarely needed
        import pyarrow.parquet

        def rows(vectors: np.ndarray) -> Any:
            return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])

        table = {"id": _valid_strings(self.ids), "vector": rows(self.vectors)}
        if self.title_vectors is not None:
            table["title_vector"] = rows(self.title_vectors)
        if self.photos is not None:
            table["photo"] = _valid_strings(self.photos)
        table |= {name: self._arrays[name] for name in ("label", "listing") if self._arrays[name] is not None}
        own, written = list(table), {}
        for name, values in self.columns.items():
            free = name
            while free in table:
                free += "_"
            table[free], written[free] = _valid_strings(values), name
        words = {"schema": SCHEMA, "own": own, "columns": written}
        words["origin"] = self.origin and dataclasses.asdict(self.origin)
        photos = zip(table.get("photo", ()), () if self.photos is None else self.photos, strict=True)
        words["paths"] = {row: path for row, (shown, path) in enumerate(photos) if shown != path}
        arrow = pyarrow.table(table)
        arrow = arrow.replace_schema_metadata({PARQUET_KEY: json.dumps(words)})
        pyarrow.parquet.write_table(arrow, file, write_page_checksum=True)

    @property
    def _arrays(self) -> dict[str, np.ndarray | None]:
        names = ("vectors", "label", "listing", "title_vectors")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Reads what `save` wrote; raises UserError if the file is missing, damaged or something else."""
        path = Path(path)
        remedy = "write them with `ssljax evaluate RUN`, or with `ssljax embed` for other data"
        with read_as("embeddings", path, remedy):
            try:
                with open_regular(path) as file:
                    return cls(**(_read_parquet if path.suffix == ".parquet" else _read_npz)(path, file))
            except FileNotFoundError:
                raise UserError(f"there are no embeddings {path}: {remedy}") from None


def _read_npz(path: Path, stream: BinaryIO) -> dict[str, Any]:
    with np.load(stream, allow_pickle=False) as file:
        words = json.loads(file["text"].tobytes())
        _check_schema(words, path)
        return {
            "ids": text(words["ids"]),
            "columns": {name: text(values) for name, values in words["columns"].items()},
            "photos": None if words["photos"] is None else raw_text(words["photos"]),
            "origin": _origin(words),
            **{name: file[name] for name in words["arrays"]},
        }


def _read_parquet(path: Path, stream: BinaryIO) -> dict[str, Any]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(stream, page_checksum_verification=True)
    words = json.loads((table.schema.metadata or {})[PARQUET_KEY])
    _check_schema(words, path)

    def rows(name: str) -> np.ndarray:
        vectors = table[name].combine_chunks()
        return vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)

    fields = {name: table[name].to_numpy() for name in ("label", "listing") if name in words["own"]}
    if "title_vector" in words["own"]:
        fields["title_vectors"] = rows("title_vector")
    if "photo" in words["own"]:
        fields["photos"] = raw_text(table["photo"].to_pylist())
        for row, path in words.get("paths", {}).items():
            fields["photos"][int(row)] = path
    return {
        "ids": text(table["id"].to_pylist()),
        "vectors": rows("vector"),
        "columns": {name: text(table[free].to_pylist()) for free, name in words["columns"].items()},
        "origin": _origin(words),
        **fields,
    }


def _check_schema(words: dict[str, Any], path: Path) -> None:
    if words["schema"] != SCHEMA:
        raise UserError(f"{path} has schema {words['schema']}: this version of ssljax reads {SCHEMA}")


def _origin(words: dict[str, Any]) -> Origin | None:
    """The origin; None also for a file of a version that did not write one."""
    return Origin(**words["origin"]) if words.get("origin") else None


def raw_pixels(photos: np.ndarray) -> np.ndarray:
    """The baseline without training: f32[n, S * S * 3], the pixels in [0, 1] less their mean over the photos.

    Args:
      photos: u8[n, S, S, 3], ALL photos of a split, decoded at S = 32: the mean is that of the whole split. (Removing
        each photo's own mean instead costs most metrics up to a point.)
    """
    x = photos.reshape(len(photos), -1).astype(np.float32) / 255
    return x - x.mean(axis=0, dtype=np.float64).astype(np.float32)[None]


def _strings(values: np.ndarray) -> list[str]:
    return [str(value) for value in values]


def _valid_strings(values: np.ndarray) -> list[str]:
    return [valid(str(value)) for value in values]
