"""Commands that embed data, index embeddings, and search."""

import argparse
import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from ssljax import loop
from ssljax.commands.shared import experiment_of
from ssljax.config import Experiment, load_experiments
from ssljax.data import Catalogue, Folder
from ssljax.data.decode import BadImage, decode, thumbnail, thumbnail_or_grey
from ssljax.data.items import SPLITS
from ssljax.embed import Encoder
from ssljax.logging import console, print_table
from ssljax.retrieval import Collection, Embeddings, Exact, Faiss, ScaNN, default_index, save_collection
from ssljax.retrieval.report import Found, Query, write_search
from ssljax.retrieval.report.gallery import PIXELS
from ssljax.run import Run
from ssljax.types import UserError

KINDS = {"exact": Exact, "scann": ScaNN, "faiss": Faiss}
DEFAULT_KIND = next(name for name, kind in KINDS.items() if isinstance(default_index(), kind))
SUFFIXES = (".npz", ".parquet")


@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """Embed photos with the network of a complete run."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: tyro.conf.Positional[Path]
    """A catalogue (.csv, .parquet or .jsonl), a folder of photos, or an experiment file, whose data is taken."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("embeddings.npz")
    """The file to write, .npz or .parquet."""
    splits: tuple[str, ...] = ()
    """Splits to embed; by default all of a catalogue or folder, and the gallery of an experiment."""
    images: str | None = None
    """Where a catalogue has its photos: a column, or a template such as images/{id}.jpg. By default as the run's data
    has it, if that is a Catalogue."""
    id: str | None = None
    """The catalogue's column of unique ids; by default as the run's data has it, or else "id"."""
    title: str | None = None
    """The catalogue's column of titles; by default as the run's data has it, or else "title" if it is there."""
    max_bad_share: float | None = None
    """Share of unreadable photos above which it stops; by default that of the run."""


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """Build an index of embeddings. Another --kind has other settings: `ssljax index --kind exact --help`."""

    embeddings: tyro.conf.Positional[tuple[Path, ...]]
    """Files that `ssljax embed` wrote, or RUN/embeddings/*.npz."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder to write; an index that is there is replaced."""
    kind: Literal["exact", "scann", "faiss"] = DEFAULT_KIND
    """The kind of index."""
    settings: Annotated[Any, tyro.conf.arg(name="")] = default_index()


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The items that are nearest to photos."""

    where: tyro.conf.Positional[Path]
    """An index that `ssljax index` built, or a run folder, whose own index is searched."""
    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Image files."""
    top: Annotated[int, tyro.conf.arg(aliases=["--k"])] = 10
    """How many items for each."""
    html: Path | None = None
    """Also write a page that shows the photos and what was found."""
    run: Path | None = None
    """The run that embeds the photos; by default the one that embedded what the index holds."""


def embed(arguments: list[str]) -> None:
    """`ssljax embed RUN DATA -o FILE`."""
    options = tyro.cli(EmbedOptions, args=arguments, prog="ssljax embed")
    if options.output.suffix not in SUFFIXES:
        raise UserError(f"output={options.output} must end in .npz or .parquet: try {options.output}.npz")
    run = Run(options.run)
    experiment = experiment_of(run)
    data, splits = _data(options, experiment)
    share = experiment.max_bad_share if options.max_bad_share is None else options.max_bad_share
    setting = loop.Setting.of_run(dataclasses.replace(experiment, data=data, max_bad_share=share), run)
    photos = sum(len(setting.load(split)) for split in splits)
    console.print(f"Embedding {photos:,} photos ...")
    embeddings = loop.embed(setting, run, splits)
    try:
        embeddings.save(options.output)
    except OSError as error:
        raise UserError(f"{options.output} cannot be written ({error.strerror or error}): choose another -o") from None
    bad = photos - len(embeddings)
    listed = f"; {bad:,} cannot be read, and are listed in {run.bad_inputs}" if bad else ""
    console.print(f"{len(embeddings):,} of {photos:,} photos in {embeddings.vectors.shape[1]:,} dimensions{listed}.")
    print(options.output)


def index(arguments: list[str]) -> None:
    """`ssljax index FILE... -o INDEX [--kind KIND]`."""
    kind = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    kind.add_argument("--kind", choices=list(KINDS), default=DEFAULT_KIND)
    try:
        settings = KINDS[kind.parse_known_args(arguments)[0].kind]()
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    default = IndexOptions((), Path(), settings=settings)
    default = dataclasses.replace(default, embeddings=tyro.MISSING, output=tyro.MISSING)
    options = tyro.cli(IndexOptions, args=arguments, default=default, prog="ssljax index")
    embeddings = Embeddings.joined([Embeddings.load(path) for path in options.embeddings])
    try:
        save_collection(options.output, options.settings, embeddings)
    except OSError as error:
        raise UserError(f"{options.output} cannot be written ({error.strerror or error}): choose another -o") from None
    console.print(f"{len(embeddings):,} items in {embeddings.vectors.shape[1]:,} dimensions.")
    print(options.output)


def search(arguments: list[str]) -> None:
    """`ssljax search WHERE PHOTO...`."""
    options = tyro.cli(SearchOptions, args=arguments, prog="ssljax search")
    if options.top < 1:
        raise UserError(f"top={options.top} is too small: it must be at least 1")
    if not options.photos:
        raise UserError("name at least one photo: ssljax search WHERE PHOTO...")
    found = Searched.of(options.where, options.run)
    queries = [_decoded(photo, found.encoder.photo_size) for photo in options.photos]
    vectors = np.concatenate([found.encoder.embed(image[None], np.float32([aspect])) for image, aspect in queries])
    ids, scores = found.collection.search(vectors, options.top)
    for photo, row_ids, row_scores in zip(options.photos, ids, scores, strict=True):
        if len(options.photos) > 1:
            print(photo)
        _print_nearest(found.collection, list(row_ids), row_scores)
    if options.html is not None:
        answers = [
            Query(str(photo), thumbnail(photo, PIXELS), found.shown(row_ids, row_scores))
            for photo, row_ids, row_scores in zip(options.photos, ids, scores, strict=True)
        ]
        try:
            write_search(options.html, str(options.where), len(found.collection), answers)
        except OSError as error:
            raise UserError(f"{options.html} cannot be written ({error.strerror or error})") from None
        console.print(f"The page is {options.html}.")


@dataclasses.dataclass(frozen=True)
class Searched:
    """An index that is open, what embeds photos for it, and where the photos of its items are."""

    collection: Collection
    encoder: Encoder
    photo: Callable[[str], Any]
    """id → what `decode` reads; None if there is no photo"""

    @classmethod
    def of(cls, where: Path, run: Path | None, *, to_change: bool = False) -> "Searched":
        """Opens an index, or that of a run folder; raises UserError if its vectors are not of the run as it is now."""
        own = _is_run(where)
        if own:
            experiment = experiment_of(Run(where))  # a damaged run folder is to be told first
            if not Run(where).index.exists():
                raise UserError(f"{where} has no index yet: train it to the end first")
        elif not (where / "manifest.json").exists():
            raise UserError(f"{where} is not a run folder, nor an index: name what `ssljax train` or `index` made")
        folder = Run(where).index if own else where
        try:
            collection = Collection.open(folder, to_change=to_change)
        except UserError as error:
            raise UserError(f"{error} by `ssljax evaluate {where}`" if own else str(error)) from None
        try:
            run = Run(run or (where if own else _origin_of(collection)))
            experiment = experiment_of(run)
            encoder = loop.encoder(loop.Setting.of_run(experiment, run), run)
            _check_origin(collection, encoder, run)
        except BaseException:
            collection.close()
            raise
        return cls(collection, encoder, _photos(collection, experiment if own else None))

    def shown(self, ids: np.ndarray, scores: np.ndarray) -> list[Found]:
        """What a page shows of these items."""
        pairs = zip(ids, scores.tolist(), strict=True)
        return [
            Found(id, self.collection.item(id).caption(id), score, thumbnail_or_grey(self.photo(id), PIXELS))
            for id, score in pairs
        ]


def _is_run(folder: Path) -> bool:
    run = Run(folder)
    return run.source.exists() or run.options.exists()


def _origin_of(collection: Collection) -> Path:
    origin = collection.origin
    if origin is None:
        raise UserError(f"{collection.folder} does not say which run embedded its items: name it by --run")
    if not os.path.isdir(origin.run):
        raise UserError(f"{origin.run}, the run that embedded {collection.folder}, is not there: name it by --run")
    return Path(origin.run)


def _check_origin(collection: Collection, encoder: Encoder, run: Run) -> None:
    """Vectors of two networks can have equal dimensions and nothing in common: answers would be noise."""
    if collection.origin is not None and collection.origin.weights != encoder.origin.weights:
        raise UserError(
            f"{collection.folder} was embedded by other weights than {run.path} has now: embed its items and build the "
            "index anew, or name the right run by --run"
        )


def _photos(collection: Collection, experiment: Experiment | None) -> Callable[[str], Any]:
    """Id → photo: of the collection's files; for a run's own index also of its data, which may be no files."""

    @functools.cache
    def drawn() -> dict[str, Any]:
        splits = [] if experiment is None else [experiment.data.load(split) for split in experiment.gallery]
        return {str(id): (items, row) for items in splits for row, id in enumerate(items.ids)}

    def photo(id: str) -> Any:
        if id not in collection:
            return None
        path = collection.item(id).photo
        if path is not None or id not in drawn():
            return path
        items, row = drawn()[id]
        return items.photos[row]

    return photo


def _data(options: EmbedOptions, experiment: Experiment) -> tuple[Any, tuple[str, ...]]:
    """The source that DATA names, and which of its splits are to be embedded."""
    if options.data.suffix == ".py":
        other, _ = load_experiments(options.data)
        return other.data, options.splits or other.gallery
    everything = (1.0, 0.0, 0.0)  # in the train split
    if options.data.is_dir():
        split = [name for name in SPLITS if (options.data / name).is_dir()]
        data = Folder(str(options.data.absolute()))
        if options.splits or split:
            return data, options.splits or tuple(split)
        return dataclasses.replace(data, shares=everything), ("train",)
    path = str(options.data.absolute())
    like = isinstance(experiment.data, Catalogue)
    data = dataclasses.replace(experiment.data, path=path) if like else Catalogue(path)
    data = dataclasses.replace(data, images=options.images or data.images, id=options.id or data.id)
    data = dataclasses.replace(data, label=None, listing=None, attributes=(), title=options.title or data.title)
    if options.splits:
        return data, options.splits
    return dataclasses.replace(data, split=None, shares=everything), ("train",)


def _decoded(photo: Path, size: int) -> tuple[np.ndarray, float]:
    try:
        return decode(photo, size)
    except BadImage as error:
        raise UserError(f"{photo} cannot be read: {error}") from None


def _print_nearest(collection: Collection, ids: list[str], scores: np.ndarray) -> None:
    items = [collection.item(id) for id in ids]
    columns = list(dict.fromkeys(name for item in items for name in item.columns if name != "id"))
    shown = [name for name in ("title", "label", "listing") if name in columns] or columns[:3]
    printed = Table("", "score", "id", *shown)
    for rank, (id, score, item) in enumerate(zip(ids, scores, items, strict=True), 1):
        values = (Text(item.columns.get(name, "")) for name in shown)
        printed.add_row(str(rank), f"{score:.3f}", Text(id), *values)
    print_table(printed)
