"""TFDS: any prepared data set of TensorFlow Datasets, read in any order and without TensorFlow."""

import contextlib
import dataclasses
import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from ssljax.data.atomic_files import locked, open_folder, save_folder, write_text
from ssljax.data.columns import text
from ssljax.data.items import Items
from ssljax.data.paths import data_root
from ssljax.data.text import did_you_mean
from ssljax.types import UserError

SCHEMA = 1  # of what is kept: one more wherever a record's text would be another


@dataclasses.dataclass(frozen=True)
class TFDS:
    """A data set of TensorFlow Datasets, prepared in a format with random access (ArrayRecord or Parquet).

    Splits are those of the data set ("val" also finds "validation", and "train[:90%]" is understood). Ids are
    `<split>/<row>`. Needs `pip install 'ssljax[tfds]'`; TensorFlow is only needed to prepare a data set, not here.
    """

    name: str
    """as in TFDS, with a configuration and version if wanted: cifar10, cifar10:3.0.2, caltech_birds2011"""
    data_dir: str | None = None
    """the folder of prepared data sets; default: `tfds` under SSLJAX_DATA if the data set is there, or TFDS's own"""
    image: str = "image"
    """the feature that is the photo"""
    label: str | None = "label"
    """the feature that is the class label, None to have no labels"""

    def load(self, split: str) -> Items:
        """The photos of a split, encoded as they are stored; raises UserError as Source does.

        The first time all records of the split are read, as labels and texts lie beside the photos. They are kept in
        the folder `ssljax` of the prepared data set or, if that cannot be written, in the user's cache folder. Of
        several processes of one machine one reads and the others wait; each machine may read them once.
        They are read anew if the files' sizes or dates change, or if what was kept is damaged.
        """
        info = self._builder().info
        if split.split("[")[0] not in info.splits and not (split == "val" and "validation" in info.splits):
            there = ", ".join(f"{name} ({part.num_examples})" for name, part in info.splits.items())
            raise UserError(f"data: split {split!r} is empty; there are {there}")
        for field, name in (("image", self.image), ("label", self.label)):
            if name is not None and name not in info.features:
                raise UserError(
                    f"data.{field}={name!r} is not a feature of {self.name}{did_you_mean(name, list(info.features))}"
                )
        photos = _Photos(self, "validation" if split == "val" and "val" not in info.splits else split)
        try:
            columns = photos.columns()
        except (ValueError, OSError) as error:
            raise UserError(f"data: split {split!r} cannot be read ({str(error).splitlines()[0]})") from error
        label, names = None, ()
        if self.label is not None:
            feature = info.features[self.label]
            if not hasattr(feature, "names"):
                raise UserError(f"data.label={self.label!r} of {self.name} is {feature}; it must be a ClassLabel")
            names = tuple(feature.names)
            numbers = {name: number for number, name in enumerate(names)} | {"": -1}
            label = np.array([numbers[name] for name in columns[self.label]], dtype=np.int32)
        return Items(text(f"{split}/{row}" for row in range(len(photos))), photos, columns, label, label_names=names)

    def _builder(self) -> Any:
        """The builder of the data set; raises UserError with the command to run if it is not prepared or readable."""
        if re.match(r"[^/:]+:(?!\d)", self.name):
            raise UserError(f"data.name={self.name!r} is a community data set, whose code TFDS would run: name another")
        tfds = _package()
        root = data_root() / "tfds"
        base = self.name.split("/")[0].split(":")[0]
        data_dir = self.data_dir or (str(root) if (root / base).is_dir() else None)
        try:
            builder = tfds.builder(self.name, data_dir=data_dir and str(Path(data_dir).expanduser()))
        except ValueError as error:  # DatasetNotFoundError, or a name that is not one
            close = difflib.get_close_matches(base, tfds.list_builders(with_community_datasets=False), n=1)
            hint = f"did you mean {close[0]!r}?" if close and close[0] != base else "no such data set or version"
            raise UserError(
                f"data.name={self.name!r} is neither in TFDS nor in {data_dir or 'its folder'}: {hint}"
            ) from error
        if not builder.info.splits:
            state = "not prepared"
        elif not builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access():
            state = f"prepared as {builder.info.file_format.value}, which cannot be read at random"
        else:
            return builder
        option = f" --data_dir={data_dir}" if data_dir else ""
        command = f"tfds build {self.name} --file_format=array_record{option}"
        raise UserError(f"data.name={self.name!r} is {state} in {builder.data_dir}: run `{command}`")


def _package() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError("TFDS needs a package that is not installed: run pip install 'ssljax[tfds]'") from error
    return tensorflow_datasets


class _Photos(Sequence):
    """The photos of a split: encoded bytes where the data set stores images encoded, else arrays. Files are opened on
    first use in each process."""

    def __init__(self, source: TFDS, split: str):
        self.source, self.split = source, split
        self._records = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_records": None}

    @property
    def records(self) -> Sequence[dict[str, Any]]:
        if self._records is None:
            tfds, builder = _package(), self.source._builder()
            images = [name for name, f in builder.info.features.items() if isinstance(f, tfds.features.Image)]
            skip = {name: tfds.decode.SkipDecoding() for name in images}
            self._records = builder.as_data_source(self.split, decoders=skip or None)
        return self._records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> bytes | np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(row)  # what ends a loop over a sequence; ArrayRecord raises another error
        return self.records[row][self.source.image]

    def columns(self) -> dict[str, np.ndarray]:
        """The features that are one value (text, numbers, names of classes) as text, object[n] of str."""
        builder = self.source._builder()
        features = builder.info.features
        names = [n for n, f in features.items() if f.shape == () and n != self.source.image]

        def read() -> dict[str, list[str]]:
            rows = [[_text(features[name], record[name]) for name in names] for record in self.records]
            return {name: [row[k] for row in rows] for k, name in enumerate(names)}

        files = [(path.name, path.stat()) for path in builder.info.splits[self.split].filepaths]
        dated = [(name, found.length, found.mtime) for name, found in files]
        named = [(name, getattr(features[name], "names", None)) for name in names]
        key = json.dumps([SCHEMA, builder.info.full_name, self.split, named, dated]).encode()
        places = Path(builder.data_dir) / "ssljax", platformdirs.user_cache_path("ssljax") / "tfds"
        folders = [place / hashlib.sha256(key).hexdigest()[:32] for place in places]
        kept = _kept(folders, read) if names else {}
        return {name: text(values) for name, values in kept.items()}


def _kept(folders: Sequence[Path], make: Callable[[], dict[str, list[str]]]) -> dict[str, list[str]]:
    """What `make` returns: from the first of the folders that has it whole, or else made, and kept in the first that
    can be written, if one can.

    Of the processes of a machine only one makes it at a time.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                stack.enter_context(locked(folder, exclusive=True))
                break
        for folder in folders:
            with contextlib.suppress(UserError, OSError):
                _, data = open_folder(folder / "columns")
                return json.loads((data / "columns.json").read_bytes())
        made = make()
        for folder in folders:
            with contextlib.suppress(UserError, OSError):
                save_folder(folder / "columns", {}, lambda data: write_text(data / "columns.json", json.dumps(made)))
                break
        return made


def _text(feature: Any, value: Any) -> str:
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value)) if value >= 0 else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
