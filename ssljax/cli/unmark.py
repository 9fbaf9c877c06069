"""`ssljax unmark`: copies a catalogue without its sellers' watermarks, and writes a page of photos before and after."""

import dataclasses
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from ssljax.cli.shared import Delimiter, Encoding, Output, command_line
from ssljax.data import Catalogue
from ssljax.data.decode import BadImage, decode_whole
from ssljax.data.items import Items
from ssljax.data.paths import find
from ssljax.data.text import comparable, did_you_mean
from ssljax.data.watermark_removal import LEAST, LONGEST, MOST, Mark, find_mark
from ssljax.report import Cleaned, write_before_after
from ssljax.training.logging import console, counting, print_result
from ssljax.types import UserError

PAGE = "before_after.html"
SHOWN = 6  # photos of a seller on the page
PIXELS = 240  # of their longer sides there
QUALITY = 95  # of the photos that are written anew, where their format has such a setting


@dataclasses.dataclass(frozen=True)
class UnmarkOptions:
    """Copy a catalogue and its photos to a new folder, and remove the mark that a seller has put on all photos at one
    place. Look at FOLDER/before_after.html before you train on the copy."""

    catalogue: tyro.conf.Positional[Path]
    """The file (.csv, .json, .parquet, .xlsx, ...); its photos must lie under its folder."""
    output: Output
    """The folder to make: a new or an empty one."""
    by: str | None = None
    """The column of sellers; without it all photos are taken for those of one."""
    leave: tuple[str, ...] = ()
    """Sellers whose photos are copied as they are."""
    images: tuple[str, ...] = ("images/{id}.jpg",)
    """Where a row's photos are, as in the experiment's Catalogue."""
    id: str = "id"
    """The column of unique ids."""
    delimiter: Delimiter = None
    encoding: Encoding = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was done."""

    photos: int
    cleaned: int
    missing: int
    sellers: int
    few: int
    """sellers with too few photos to look for a mark"""
    marks: int
    """sellers with a mark"""


def main(arguments: list[str]) -> None:
    """`ssljax unmark FILE -o FOLDER [OPTIONS]`."""
    options = tyro.cli(UnmarkOptions, args=arguments, prog="ssljax unmark")
    images = options.images[0] if len(options.images) == 1 else options.images
    catalogue = Catalogue(
        str(options.catalogue),
        images=images,
        id=options.id,
        split=None,
        delimiter=options.delimiter,
        encoding=options.encoding,
    )
    command = command_line("unmark", arguments)
    summary = unmark(catalogue, options.output, by=options.by, leave=options.leave, command=command)
    found = f"{summary.marks:,} of {summary.sellers:,} sellers have a mark"
    few = f" ({summary.few:,} have too few photos to tell)" * bool(summary.few)
    missing = f"; {summary.missing:,} are missing" * bool(summary.missing)
    console.print(f"{found}{few}; {summary.cleaned:,} of {summary.photos:,} photos were cleaned{missing}.")
    print_result(options.output / PAGE)


def unmark(
    catalogue: Catalogue, output: Path, *, by: str | None = None, leave: Sequence[str] = (), command: str = ""
) -> Summary:
    """Copies a catalogue and its photos to a folder, with the marks of its sellers removed.

    Photos keep their path under the catalogue's folder; those without a mark are copied bit for bit, the others are
    written anew, in their format. The folder appears when all is done.

    Args:
      catalogue: what is read: its file, photos, and ids.
      output: the folder, new or empty.
      by: the column of sellers; None takes all photos for one's.
      leave: sellers whose photos are copied as they are.
      command: of the command line, for the page.

    Raises:
      UserError: the folder holds something or cannot be written, there is no such column or seller, a photo is not
        under the catalogue's folder, or not one can be read.
    """
    items, source = catalogue.load_all(), find(catalogue.path)
    if by is not None and by not in items.columns:
        raise UserError(f"by={by!r} is not a column of {source.name}{did_you_mean(by, list(items.columns))}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output={str(output)!r} is there already: name a new or empty folder")
    groups = _photos_by_seller(items, source.parent, by)
    for seller in leave:
        if seller not in groups:
            raise UserError(f"leave={seller!r} is not a seller{did_you_mean(seller, list(groups))}")
    unfinished = output.absolute().with_name(f".{output.absolute().name}.{secrets.token_hex(8)}")
    try:
        unfinished.mkdir(parents=True)
        summary, cleaned = _copy(groups, source.parent, unfinished, leave)
        shutil.copyfile(source, unfinished / source.name)
        write_before_after(unfinished / PAGE, source.name, _facts(summary, by), cleaned, command)
        unfinished.replace(output)
    except OSError as error:
        raise UserError(f"output={str(output)!r} cannot be written ({error})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return summary


def _photos_by_seller(items: Items, folder: Path, by: str | None) -> dict[str, list[str]]:
    """Seller → paths of photos under the folder, each path once. A blank seller is one like the others."""
    sellers = [""] * len(items) if by is None else [comparable(value) for value in items.columns[by]]
    groups: dict[str, list[str]] = {}
    known = set()
    for seller, path in zip(sellers, items.photos, strict=True):
        name = os.path.relpath(path, folder)
        if name.split(os.sep)[0] == os.pardir:
            raise UserError(f"photo {str(path)!r} is not under {folder}, the catalogue's folder: move it there")
        if name not in known:
            known.add(name)
            groups.setdefault(seller, []).append(name)
    return groups


def _copy(
    groups: dict[str, list[str]], source: Path, target: Path, leave: Sequence[str]
) -> tuple[Summary, list[Cleaned]]:
    """Copies all photos, those with a mark without it; raises UserError if not one of those looked at can be read."""
    marks, done, few, missing, read, first_reason = [], 0, 0, 0, 0, ""
    total = sum(map(len, groups.values()))
    with counting("photos", total) as progress:
        for seller, names in groups.items():
            sample, reason = ([], "") if seller in leave else _sample(names, source)
            read, first_reason = read + len(sample), first_reason or reason
            few += len(sample) < LEAST and seller not in leave
            mark, cleaned, examples = find_mark(sample), 0, []
            for name in names:
                example = None if mark is None else _clean(mark, source / name, target / name)
                if example is not None:
                    cleaned += 1
                    examples += [(name, *example)] * (cleaned <= SHOWN)
                elif (source / name).is_file():
                    _make_folder(target / name)
                    shutil.copyfile(source / name, target / name)
                else:
                    missing += 1
                done += 1
                progress(done)
            if mark is not None:
                marks.append(Cleaned(seller, len(names), cleaned, mark.strength, mark.picture(), examples))
    if first_reason and not read:
        raise UserError(f"data: not one photo can be read ({first_reason})")
    return Summary(total, sum(mark.cleaned for mark in marks), missing, len(groups), few, len(marks)), marks


def _sample(names: list[str], source: Path) -> tuple[list[np.ndarray], str]:
    """Photos that a mark is looked for in, from all over a seller's; and why the first of those unread is not read."""
    photos, reason = [], ""
    for k in np.unique(np.linspace(0, len(names) - 1, MOST).astype(int)):
        try:
            photos.append(_shrunk(decode_whole(source / names[k])[0], LONGEST))
        except BadImage as error:
            reason = reason or f"{names[k]}: {error}"
    return photos, reason


def _clean(mark: Mark, source: Path, target: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Writes a photo without its mark, and gives it before and after, small; None if it has no mark or is not read."""
    try:
        photo, kind = decode_whole(source)
    except BadImage:
        return None
    if not mark.is_on(photo):
        return None
    clean = mark.remove(photo)
    _make_folder(target)
    Image.fromarray(clean).save(target, kind, quality=QUALITY, subsampling=0, lossless=True)
    return _shrunk(photo, PIXELS), _shrunk(clean, PIXELS)


def _make_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _shrunk(photo: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(photo)
    image.thumbnail((side, side))
    return np.asarray(image)


def _facts(summary: Summary, by: str | None) -> dict[str, str]:
    sellers = f"{summary.sellers:,} (by {by})" if by else "all photos as one"
    too_few = f"{summary.few:,} have fewer than {LEAST} photos" if summary.few else ""
    return {
        "photos": f"{summary.photos:,}",
        "cleaned": f"{summary.cleaned:,}",
        "missing": f"{summary.missing:,}" if summary.missing else "",
        "sellers": sellers,
        "with a mark": f"{summary.marks:,}",
        "too few to tell": too_few,
    }
