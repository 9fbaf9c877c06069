"""Arrays: photos that are already pixels, in one .npz file."""

import dataclasses
from typing import Any

import numpy as np

from ssljax.data.atomic_files import open_regular
from ssljax.data.columns import encode, encode_label, listing_keys, text
from ssljax.data.items import Items, Shares, hashed_splits, split_rows
from ssljax.data.paths import find
from ssljax.data.text import did_you_mean
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A file of numpy.savez: `image` u8[n, h, w, 3] or grey u8[n, h, w]; and where there are, of n values each (numbers
    or text), `label` and `listing` (-1 or blank = missing), `split` (without it: split by a hash of the listing, or
    else of the id), `id` (default: the row's number), `title`."""

    path: str
    """the .npz file; a relative path is looked up from here, then under SSLJAX_DATA"""
    shares: Shares = (0.8, 0.1, 0.1)
    """the shares of train, val and test in a file without `split`"""

    def load(self, split: str) -> Items:
        """The photos of a split, all in memory; raises UserError as Source does."""
        path = find(self.path)
        try:
            with open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
        except Exception as error:  # numpy lets through whatever zip and pickle raise
            raise UserError(f"data.path={self.path!r} is not an .npz file of plain arrays ({error})") from error
        photos = self._photos(arrays)
        columns = {name: self._text(name, values) for name, values in arrays.items()}
        ids = columns.get("id", text(map(str, range(len(photos)))))
        label, names = encode_label(columns["label"], "label") if "label" in columns else (None, ())
        keys = listing_keys(columns["listing"], ids) if "listing" in columns else None
        items = Items(ids, photos, columns, label, listing=None if keys is None else encode(keys)[0], label_names=names)
        splits = columns.get("split")
        if splits is None:
            splits = hashed_splits(ids if keys is None else keys, self.shares)
        return items.select(split_rows(splits, split))

    def _photos(self, arrays: dict[str, np.ndarray]) -> Any:
        """Takes u8[n, h, w, 3] out of `arrays` and leaves what else has a value a photo; raises UserError if a shape or
        dtype is wrong."""
        if "image" not in arrays:
            raise UserError(f"{self.path}: no array is called 'image'{did_you_mean('image', list(arrays) or ['none'])}")
        photos = arrays.pop("image")
        if photos.dtype != np.uint8:
            raise UserError(f"{self.path}: image is {photos.dtype}; it must be uint8, 0 to 255")
        if not (photos.ndim == 3 or (photos.ndim == 4 and photos.shape[3] == 3)):
            raise UserError(f"{self.path}: image has shape {photos.shape}; it must be n, h, w, 3 (or n, h, w if grey)")
        for name in list(arrays):
            shape, right = arrays[name].shape, (len(photos),)
            if shape != right and name in ("id", "label", "listing", "split", "title"):
                raise UserError(f"{self.path}: {name} has shape {shape}; it must be {right}, a value a photo")
            if shape != right:
                del arrays[name]
        return photos if photos.ndim == 4 else np.broadcast_to(photos[..., None], (*photos.shape, 3))

    def _text(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values as text; NaN is blank, and so is -1 in labels and listings. Raises UserError if what should tell
        photos apart is a fraction."""
        kind = values.dtype.kind
        if kind == "S":
            return text(value.decode(errors="replace") for value in values.tolist())
        if kind in "mM":
            return text("" if np.isnat(value) else str(value) for value in values)
        whole, missing = False, -1 if name in ("label", "listing") else None
        if kind == "f":
            fractions = values[np.isinf(values) | ((values != np.trunc(values)) & ~np.isnan(values))]
            whole = not len(fractions)
            if not whole and name in ("id", "label", "listing"):
                raise UserError(f"{self.path}: {name} holds {fractions[0]}; it must be whole numbers or text")
        return text("" if v != v or v == missing else str(int(v) if whole else v) for v in values.tolist())
