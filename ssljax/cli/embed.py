"""`ssljax embed`: embeds a catalogue, a folder of photos, or another experiment's data with the network of a run."""

import dataclasses
from pathlib import Path

import tyro

from ssljax.cli.shared import (
    Delimiter,
    Encoding,
    Network,
    Output,
    PathOrHub,
    TrustCode,
    experiment_of,
    new_bad_inputs,
    source_of,
    writing,
)
from ssljax.config import Experiment
from ssljax.data import Catalogue, Folder
from ssljax.data.paths import check_no_address
from ssljax.data.tables import read_table
from ssljax.data.text import comparable
from ssljax.evaluation.restore import NETWORK_ALONE, Restored
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_result
from ssljax.training.run_folder import Run
from ssljax.types import Source, UserError

EVERYTHING = {"shares": (1.0, 0.0, 0.0)}  # in the train split


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How data that a run was not trained on is read and embedded."""

    splits: tuple[str, ...] = ()
    """Splits to embed; by default all of a catalogue or folder, and the gallery of an experiment."""
    images: tuple[str, ...] = ()
    """Where a catalogue has its photos: a column, or a template such as images/{id}.jpg, or several. By default as the
    run's data has it, if that is a Catalogue."""
    id: str | None = None
    """The catalogue's column of unique ids; by default as the run's data has it, or else "id"."""
    title: str | None = None
    """The catalogue's column of titles; by default as the run's data has it, or else "title" if it is there."""
    delimiter: Delimiter = None
    encoding: Encoding = None
    network: Network = "student"
    """Which of the run's networks, if it has a teacher."""
    max_bad_share: float | None = None
    """Share of unreadable photos above which it stops; by default that of the run."""
    trust_code: TrustCode = False


@dataclasses.dataclass(frozen=True)
class EmbedOptions(DataOptions):
    """Embed photos, with their titles if it reads those, with the network of a complete run."""

    run: tyro.conf.Positional[PathOrHub]
    """The run folder."""
    data: tyro.conf.Positional[Path]
    """A catalogue (.csv, .json, .parquet, .xlsx, ...), a folder of photos, or an experiment file, whose data is
    taken."""
    output: Output = Path("embeddings.npz")
    """The file to write, .npz or .parquet."""


def main(arguments: list[str]) -> None:
    """`ssljax embed RUN DATA -o FILE`."""
    options = tyro.cli(EmbedOptions, args=arguments, prog="ssljax embed")
    if options.output.suffix not in (".npz", ".parquet"):
        raise UserError(f"output={options.output} must end in .npz or .parquet: try {options.output}.npz")
    run = Run(options.run)
    experiment = experiment_of(run, options.trust_code, NETWORK_ALONE)
    experiment, splits = on_data(options, options.data, experiment)
    bad_inputs = new_bad_inputs(options.output)
    restored = Restored.of(run, experiment, bad_inputs=bad_inputs)
    photos = sum(len(restored.load(split)) for split in splits)
    console.print(f"Embedding {photos:,} photos ...")
    if restored.titles and not any("title" in restored.load(split).columns for split in splits):
        console.print(
            f"{options.data} has no titles, which the network reads as well: the photos alone are embedded. --title "
            "names the column of titles of a catalogue."
        )
    embeddings = restored.embed(splits, options.network)
    with writing(options.output, "--output"):
        embeddings.save(options.output)
    bad = photos - len(embeddings)
    listed = f"; {bad:,} cannot be read, and are listed in {bad_inputs}" if bad else ""
    console.print(f"{len(embeddings):,} of {photos:,} photos in {embeddings.vectors.shape[1]:,} dimensions{listed}.")
    print_result(options.output)


def on_data(options: DataOptions, path: Path, experiment: Experiment) -> tuple[Experiment, tuple[str, ...]]:
    """A run's experiment with the data at `path`, and which of its splits to embed."""
    data, splits = _data(options, path, source_of(experiment))
    share = experiment.max_bad_share if options.max_bad_share is None else options.max_bad_share
    return dataclasses.replace(experiment, data=data, max_bad_share=share), splits


def catalogue_at(options: DataOptions, path: Path, trained: Source | None = None) -> Catalogue:
    """The catalogue file at `path`, read as the options say, or else as the catalogue that a run was trained on."""
    check_no_address(str(path), "data")
    path = path.absolute()
    own = trained if isinstance(trained, Catalogue) else Catalogue(str(path))
    how = {"delimiter": options.delimiter, "encoding": options.encoding}
    title = options.title or own.title or "title"
    if not options.title and comparable(title) not in read_table(path, **how):
        title = None  # a catalogue need not have titles, nor one that the run's own has
    return dataclasses.replace(
        own,
        path=str(path),
        images=options.images[0] if len(options.images) == 1 else options.images or own.images,
        id=options.id or own.id,
        title=title,
        label=None,
        listing=None,
        attributes=(),
        **how,
    )


def _data(options: DataOptions, path: Path, trained: Source) -> tuple[Source, tuple[str, ...]]:
    """The source at `path`, and which of its splits to embed."""
    if path.suffix == ".py" or path.is_dir():
        for name in ("images", "id", "title", "delimiter", "encoding"):
            if getattr(options, name):
                raise UserError(f"--{name} is an option for catalogue files, and {path} is none: leave it out")
    if path.suffix == ".py":
        other, _ = load_experiments(path)
        return other.data, options.splits or other.gallery
    if path.is_dir():
        folder = Folder(str(path.absolute()))
        if splits := options.splits or folder.split_names():
            return folder, splits
        return dataclasses.replace(folder, **EVERYTHING), ("train",)
    data = catalogue_at(options, path, trained)
    if options.splits:
        return data, options.splits
    return dataclasses.replace(data, split=None, **EVERYTHING), ("train",)
