"""`ssljax duplicates`: the same photo more than once in a catalogue, and other photos of the same product."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from ssljax.cli.embed import EVERYTHING, DataOptions, catalogue_at
from ssljax.cli.match import Matched, MatchOptions, check_files, check_thresholds, print_facts, write_rows
from ssljax.cli.shared import Output, PathOrHub, command_line, is_index, is_run, new_bad_inputs, photos_by_id
from ssljax.config import Experiment
from ssljax.data import Folder
from ssljax.data.bad_inputs import BadInputs, BadPhoto
from ssljax.data.photos import decode_all
from ssljax.data.pipeline import record_bad
from ssljax.evaluation import Embeddings
from ssljax.evaluation.matching import (
    DECODED,
    Groups,
    MatchLists,
    group,
    pixel_candidates,
    prints,
    same_photo,
)
from ssljax.search import build_for_all
from ssljax.training.logging import counting, print_result
from ssljax.types import UserError

SAME_PHOTO, SAME_PRODUCT = "same photo", "same product"
NEAREST = 10  # by pixels alone: copies of a photo that are compared with it
AT_ONCE = 4096  # photos
THREADS = 8


@dataclasses.dataclass(frozen=True)
class DuplicatesOptions(DataOptions):
    """Find the same photo more than once, re-encoded or resized; and with a run also other photos of the same product.

    The file has a row for each pair: id, duplicate, kind (same photo, same product), difference (of the pixels of the
    same photo, 0 to 255), score (by the run) and group.
    """

    where: tyro.conf.Positional[PathOrHub]
    """A catalogue or a folder of photos, which are compared by pixels alone; or a run folder, an index, or a file of
    embeddings."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """With a run: the catalogue, folder of photos, or experiment file; by default the run's gallery."""
    output: Output = Path("duplicates.csv")
    """The file to write, .csv or .parquet."""
    html: Path | None = None
    """Also write a page that shows the groups, doubtful ones first."""
    threshold: tuple[float, ...] = ()
    """With a run: the cosine from which on two photos show the same product; by default as `match` chooses it."""
    calibrate: str = "val"
    """The split of the run's own data whose known products the threshold is chosen by."""
    relevant: tuple[str, ...] = ()
    """The columns there in which items of one product agree; by default those of the run's ShopeeF1 or Retrieval."""


def main(arguments: list[str]) -> None:
    """`ssljax duplicates WHERE [DATA] -o FILE`."""
    options = tyro.cli(DuplicatesOptions, args=arguments, prog="ssljax duplicates")
    check_files(output=options.output, html=options.html)
    check_thresholds(options.threshold)
    alone = not (is_run(options.where) or is_index(options.where) or _is_embeddings(options.where))
    if alone and (options.data or options.threshold):
        raise UserError(
            f"{options.where} is not a run folder, an index, nor a file of embeddings: name one first, or leave out "
            f"{options.data or '--threshold'}, to compare pixels alone"
        )
    matched, same = _by_pixels(options) if alone else _by_run(options)
    groups = group(matched.matches)
    rows = list(_rows(matched, groups, same))
    kinds = [kind for _, _, kind, *_ in rows]
    for kind in (SAME_PHOTO, SAME_PRODUCT):
        matched.facts[f"pairs of the {kind}"] = f"{kinds.count(kind):,}"
    names = ["id", "duplicate", "kind", "difference", "score", "group"]
    write_rows(options.output, "--output", names, rows)
    print_facts(matched.facts)
    if options.html is not None:
        pairs = collections.Counter(number for *_, kind, _, _, number in rows if kind == SAME_PHOTO)
        notes = {number: f"{count:,} pairs of the {SAME_PHOTO}" for number, count in pairs.items()}
        command = command_line("duplicates", arguments)
        matched.write_page(options.html, options.data or options.where, groups, command, notes)
    print_result(options.output)


def _is_embeddings(path: Path) -> bool:
    """Whether a file was written by `ssljax embed`: a catalogue may be a .parquet file, too."""
    if path.suffix != ".parquet":
        return path.suffix == ".npz"
    try:
        Embeddings.load(path)
    except UserError:
        return False
    return True


def _by_pixels(options: DuplicatesOptions) -> tuple[Matched, np.ndarray]:
    """The photos that are the same by their pixels, and the difference f32[n, K] of each match."""
    if options.where.is_dir():
        folder = Folder(str(options.where.absolute()))
        items = dataclasses.replace(folder, **EVERYTHING).load("train")
    else:
        items = catalogue_at(options, options.where).load_all()
    limit = Experiment.max_bad_share if options.max_bad_share is None else options.max_bad_share
    bad = BadInputs(new_bad_inputs(options.output), total=len(items), limit=limit)
    photos = [items.photos[row] for row in range(len(items))]
    small, aspects, readable = _prints(photos, functools.partial(record_bad, bad, items))
    items = items.select(readable)
    if len(items) < 2:
        raise UserError(f"{options.where} has one photo that can be read, and duplicates need at least two")
    nearest = pixel_candidates(small, min(NEAREST, len(items) - 1), build=build_for_all(len(items)))
    difference = _differences(small, aspects, nearest.rows)
    kept = np.isfinite(difference)
    order = np.argsort(difference, axis=1, kind="stable")
    rows, difference, scores, kept = (
        np.take_along_axis(x, order, 1) for x in (nearest.rows, difference, nearest.scores, kept)
    )
    margins = np.where(kept, -difference / 255, -np.inf).astype(np.float32)
    matches = MatchLists(
        np.where(kept, rows, -1), margins, np.where(kept, scores, -np.inf), np.zeros(rows.shape, np.int8)
    )
    facts = {"photos": f"{len(items):,}", "compared by": "pixels"}
    matched = Matched(Embeddings.unseen(items), matches, ["pixels"], photos_by_id(lambda: [items]), facts)
    return matched, difference


def _by_run(options: DuplicatesOptions) -> tuple[Matched, np.ndarray]:
    """The photos of the same product, and the difference f32[n, K] of each match; inf if it is another photo."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    fields.pop("html")
    matched = Matched.of(MatchOptions(**fields, by="image"))
    photos = [matched.photo(str(id)) for id in matched.items.ids]
    small, aspects, readable = _prints([b"" if photo is None else photo for photo in photos], lambda unread: None)
    whole, shapes = np.zeros((len(photos), *small.shape[1:]), np.uint8), np.full(len(photos), np.nan, np.float32)
    whole[readable], shapes[readable] = small, aspects
    difference = _differences(whole, shapes, matched.matches.rows)
    if unread := int((~readable).sum()):
        matched.facts["photos that are not there any more"] = f"{unread:,}"
    return matched, difference


def _prints(photos: list[Any], record: Callable[[list[BadPhoto]], None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prints u8[m, 16, 16, 3] and aspect ratios f32[m] of the photos that can be read, and which those are, bool[n].

    photos: n, for `decode`; record: called with those that cannot be read.
    """
    small, aspects, readable = [], [], []
    with counting("photos", len(photos)) as progress:
        for start in range(0, len(photos), AT_ONCE):

            def record_part(unread: list[BadPhoto], start: int = start) -> None:
                record([photo._replace(row=photo.row + start) for photo in unread])

            part = decode_all(photos[start : start + AT_ONCE], size=DECODED, threads=THREADS, record=record_part)
            small.append(prints(part.image[part.good]))
            aspects.append(part.aspect[part.good])
            readable.append(part.good)
            progress(start + len(part.good))
    return np.concatenate(small), np.concatenate(aspects), np.concatenate(readable)


def _differences(small: np.ndarray, aspects: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """f32[n, K], see `same_photo`, of each item with those at rows i32[n, K]; inf where that is -1."""
    found = np.full(rows.shape, np.inf, np.float32)
    left, column = np.nonzero(rows >= 0)
    found[left, column] = same_photo(small, aspects, left, rows[left, column])
    return found


def _rows(
    matched: Matched, groups: Groups, difference: np.ndarray
) -> Iterator[tuple[str, str, str, float | None, float, int]]:
    """Each pair once, in the order of the items."""
    ids, seen = matched.items.ids, set()
    for item, (others, values, scores) in enumerate(
        zip(matched.matches.rows, difference, matched.matches.scores, strict=True)
    ):
        for k in np.flatnonzero(others >= 0):
            pair = (min(item, int(others[k])), max(item, int(others[k])))
            if pair in seen:
                continue
            seen.add(pair)
            same = bool(np.isfinite(values[k]))
            kind = SAME_PHOTO if same else SAME_PRODUCT
            measured = float(values[k]) if same else None
            yield str(ids[pair[0]]), str(ids[pair[1]]), kind, measured, float(scores[k]), int(groups.number[item])
