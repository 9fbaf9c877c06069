"""Embeddings of a split: vectors with the ids and all that evaluation and pages need to know of their items."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from ssljax.data.items import Items, text
from ssljax.files import replace_file
from ssljax.retrieval.vectors import checked
from ssljax.types import UserError

SCHEMA = 1
BASELINE = "raw pixels"  # how tables and pages call what `raw_pixels` gives


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """One row a photo, all fields aligned. Raises UserError if the lengths differ or a vector is not finite."""

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
    """object[n] of str: where the photos lie; None if they are not files"""

    def __post_init__(self):
        object.__setattr__(self, "vectors", checked(self.vectors, "embeddings"))
        fields = {"vectors": self.vectors, "label": self.label, "listing": self.listing, "photos": self.photos}
        for name, values in (fields | self.columns).items():
            if values is not None and len(values) != len(self.ids):
                raise UserError(f"embeddings: {name} has {len(values)} rows and ids have {len(self.ids)}")

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: np.ndarray) -> "Embeddings":
        """Those at `rows`: i[m] or bool[n]."""
        optional = {"label": self.label, "listing": self.listing, "photos": self.photos}
        return Embeddings(
            self.ids[rows],
            self.vectors[rows],
            {name: values[rows] for name, values in self.columns.items()},
            **{name: None if values is None else values[rows] for name, values in optional.items()},
        )

    @classmethod
    def of(cls, items: Items, vectors: np.ndarray) -> "Embeddings":
        """Those of `items`, with vectors f32[n, D] in the same order."""
        photos = None
        if isinstance(items.photos[0], os.PathLike):
            photos = text(os.path.abspath(photo) for photo in items.photos)
        return cls(items.ids, vectors, dict(items.columns), items.label, items.listing, photos)

    @classmethod
    def unseen(cls, items: Items) -> "Embeddings":
        """Those of items that are not embedded, all vectors zero: enough to know what is relevant to what."""
        return cls.of(items, np.zeros((len(items), 1), np.float32))

    def save(self, path: Path) -> None:
        """Writes one .npz file without pickle; a file there is replaced only once the new one is complete."""
        arrays = {"vectors": self.vectors, "label": self.label, "listing": self.listing}
        arrays = {name: values for name, values in arrays.items() if values is not None}
        words = {
            "schema": SCHEMA,
            "arrays": list(arrays),
            "ids": _strings(self.ids),
            "columns": {name: _strings(values) for name, values in self.columns.items()},
            "photos": None if self.photos is None else _strings(self.photos),
        }
        # text as JSON: NumPy's fixed-width text would take four bytes for each character of the longest value
        arrays["text"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
        replace_file(Path(path), lambda file: np.savez(file, allow_pickle=False, **arrays))

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """What `save` wrote; raises UserError if there is no such file, it is damaged, or it is something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                words = json.loads(file["text"].tobytes())
                if words["schema"] != SCHEMA:
                    raise UserError(f"{path} has schema {words['schema']}: this version of ssljax reads {SCHEMA}")
                return cls(
                    ids=text(words["ids"]),
                    columns={name: text(values) for name, values in words["columns"].items()},
                    photos=None if words["photos"] is None else text(words["photos"]),
                    **{name: file[name] for name in words["arrays"]},
                )
        except FileNotFoundError:
            raise UserError(f"there are no embeddings {path}: `ssljax evaluate RUN` writes them") from None
        except UserError:
            raise
        except Exception as error:  # on a broken file zipfile and NumPy raise whatever they stumble over
            raise UserError(
                f"{path} is damaged or holds no embeddings ({error}): `ssljax evaluate RUN` writes them anew"
            ) from error


def raw_pixels(photos: np.ndarray) -> np.ndarray:
    """The baseline without training: f32[n, S * S * 3], the pixels in [0, 1] less their mean over the photos.

    Args:
      photos: u8[n, S, S, 3], ALL photos of a split, decoded at S = 32: the mean removed is that of the data set, not of
        a photo (which costs most metrics up to a point).
    """
    x = photos.reshape(len(photos), -1).astype(np.float32) / 255
    return x - x.mean(axis=0, dtype=np.float64).astype(np.float32)[None]


def _strings(values: np.ndarray) -> list[str]:
    return [str(value) for value in values]
