"""Folder: photos in folders named by their class, with or without a folder for each split."""

import dataclasses
import os
from pathlib import Path

from PIL import Image

from ssljax.data.items import SPLITS, Items, Paths, Shares, encode_label, hashed_splits, split_rows, text
from ssljax.paths import find
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class Folder:
    """Folders of photos: `<split>/<class>/*.jpg`, or `<class>/*.jpg`, which is split by a hash of the paths.

    The outer folders are splits if one of them is called train, val or test. A class within a class is a class of its
    own (`fruit/apple`); photos in no class have no label. Files that are not images (by extension) and hidden ones are
    ignored. Ids are the paths under the folder.
    """

    path: str
    """the folder; a relative path is looked up from here, then under SSLJAX_DATA"""
    shares: Shares = (0.8, 0.1, 0.1)
    """the shares of train, val and test where there are no folders of splits"""

    def load(self, split: str) -> Items:
        """The photos of a split in the order of their paths; raises UserError as Source does."""
        root = find(self.path)
        if not root.is_dir():
            raise UserError(f"data.path={self.path!r} is a file: it must be a folder of photos")
        ids = text(_images(root))
        if not len(ids):
            raise UserError(f"data.path={self.path!r} holds no image")
        folders = [name.split("/")[:-1] for name in ids]
        if any((root / name).is_dir() for name in SPLITS):
            splits = text(folder[0] if folder else "" for folder in folders)
            folders = [folder[1:] for folder in folders]
        else:
            splits = hashed_splits(ids, self.shares)
        classes = text("/".join(folder) for folder in folders)
        label, names = encode_label(classes, "folder") if any(classes) else (None, ())
        items = Items(ids, Paths(root, ids), {"label": classes} if any(classes) else {}, label, label_names=names)
        return items.select(split_rows(splits, split))


def _images(root: Path) -> list[str]:
    """The paths of images under `root`, by extension, sorted, with / between folders. Links are followed, but not into
    a folder that they lie in."""
    kinds = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = []
    around = {str(root): {os.path.realpath(root)}}  # for each folder, where it and those that it lies in really are
    for folder, folders, names in os.walk(root, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in around[folder]]
        around |= {os.path.join(folder, name): around[folder] | {real[name]} for name in folders}
        inner = Path(folder).relative_to(root)
        for name in names:
            if os.path.splitext(name)[1].lower() in kinds and not name.startswith("."):
                found.append((inner / name).as_posix())
    return sorted(found)
