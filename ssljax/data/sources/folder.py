"""Folder: photos in folders named by their class, with or without a folder for each split."""

import dataclasses
import os
from collections import Counter
from pathlib import Path

from ssljax.data.columns import encode_label, raw_text, text
from ssljax.data.decode import suffixes
from ssljax.data.items import SPLITS, Items, Paths, Shares, hashed_splits, split_rows
from ssljax.data.paths import find
from ssljax.data.text import note
from ssljax.types import UserError

# What folders of splits are called, in upper or lower case.
NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
NAMES |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
# What operating systems and programs put beside photos. Names that begin with a dot are left out too.
HIDDEN = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__pycache__"}


@dataclasses.dataclass(frozen=True)
class Folder:
    """Folders of photos: `<split>/<class>/*.jpg`, or `<class>/*.jpg`, split by a hash of the paths.

    The outer folders are splits if two of them are called train, val or test, or by another of `NAMES`; or if one is,
    and it is the only one, or the only one with folders of photos in it. They are not if they have others beside them
    and no folders in them. A class within a class is a class of its own (`fruit/apple`); photos in no class have no
    label. Ids are the paths under the folder, with bytes that are not text written as \\xe9. Hidden files and folders
    are left out, and so are files without a suffix of a photo, with a note.
    """

    path: str
    """the folder; a relative path is looked up from here, then under SSLJAX_DATA"""
    shares: Shares = (0.8, 0.1, 0.1)
    """the shares of train, val and test where there are no folders of splits"""
    splits: bool | None = None
    """whether the outer folders are splits; None decides it by their names"""

    def load(self, split: str) -> Items:
        """The photos of a split in the order of their paths; raises UserError as Source does."""
        root, names, left_out = self._look()
        if left_out:
            kinds = ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in left_out.most_common())
            note(f"{root}: left out, as they are not in a format of photos that can be read: {kinds}")
        ids = text(map(_shown, names))
        folders = [name.split("/")[:-1] for name in ids]
        if self._named(names):
            splits = text((NAMES.get(folder[0].lower()) or folder[0]) if folder else "" for folder in folders)
            folders = [folder[1:] for folder in folders]
            if others := sorted(set(splits) - {"", *SPLITS}):
                note(f"{root}: its folders are taken for splits; {', '.join(others)} are none of train, val and test")
        else:
            splits = hashed_splits(ids, self.shares)
            if taken := sorted(
                folder for folder in {folder[0] for folder in folders if folder} if folder.lower() in NAMES
            ):
                note(f"{root}: {taken[0]} is taken for a class, as it has others beside it; data.splits says otherwise")
        classes = text("/".join(folder) for folder in folders)
        label, label_names = encode_label(classes, "folder") if any(classes) else (None, ())
        columns = {"label": classes} if any(classes) else {}
        items = Items(ids, Paths(root, raw_text(names)), columns, label, label_names=label_names)
        return items.select(split_rows(splits, split))

    def split_names(self) -> tuple[str, ...]:
        """Those of train, val and test that are folders of it; none if a hash splits its photos."""
        return self._named(self._look()[1])

    def _named(self, names: list[str]) -> tuple[str, ...]:
        outer = {name.split("/")[0] for name in names if "/" in name}
        named = {name for name in outer if name.lower() in NAMES}
        there = tuple(split for split in SPLITS if split in {NAMES[name.lower()] for name in named})
        if self.splits and not there:
            raise UserError(f"data.splits=True, but no folder in {self.path!r} is called train, val or test")
        inner = {name.split("/")[0] for name in names if name.count("/") > 1}
        by_name = (len(there) > 1 and (named == outer or named & inner)) or named in (outer, inner)
        return there if (bool(by_name) if self.splits is None else self.splits) else ()

    def _look(self) -> tuple[Path, list[str], Counter[str]]:
        """Its path, the photos in it, and counts of the other files by their suffixes."""
        root = find(self.path)
        if not root.is_dir():
            raise UserError(f"data.path={self.path!r} is a file: it must be a folder of photos")
        names, left_out = _images(root)
        if not names:
            kinds = f", only files ending in {', '.join(filter(None, left_out))}" if any(left_out) else ""
            raise UserError(f"data.path={self.path!r} holds no image that can be read{kinds}")
        return root, names, left_out


def _images(root: Path) -> tuple[list[str], Counter[str]]:
    """The sorted paths of images under `root`, known by their suffixes; and counts of the suffixes of other files.

    Links are followed, except into a folder that they lie in.
    """
    found, others = [], Counter()
    around = {str(root): {os.path.realpath(root)}}  # for each folder, the real paths of it and of the folders around it
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_say_unread):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in around[folder] and not _is_hidden(name)]
        around |= {os.path.join(folder, name): around[folder] | {real[name]} for name in folders}
        inner = Path(folder).relative_to(root)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in suffixes() and not _is_hidden(name):
                found.append((inner / name).as_posix())
            elif not _is_hidden(name) and name.lower() not in ("thumbs.db", "desktop.ini"):
                others[_shown(suffix)] += 1
    return sorted(found), others


def _say_unread(error: OSError) -> None:
    note(f"{error.filename}: left out, as the folder cannot be read ({error.strerror})")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def _shown(name: str) -> str:
    """The name of a file, which may be any bytes, as printable text."""
    return os.fsencode(name).decode(errors="backslashreplace")
