"""Commands that embed data, and index embeddings."""

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ssljax.cli.shared import Network, TrustCode, check_png, experiment_of, source_of, write_png, writing
from ssljax.config import Experiment
from ssljax.data import Catalogue, Folder
from ssljax.data.paths import check_no_address
from ssljax.data.tables import read_table
from ssljax.data.text import comparable
from ssljax.evaluation import Embeddings
from ssljax.evaluation.restore import NETWORK_ALONE, Restored
from ssljax.search import Exact, Faiss, ScaNN, advice, default_index, save_collection
from ssljax.search.index import Builder, Metric
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run
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
    """A catalogue (.csv, .json, .parquet, .xlsx, ...), a folder of photos, or an experiment file, whose data is
    taken."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("embeddings.npz")
    """The file to write, .npz or .parquet."""
    splits: tuple[str, ...] = ()
    """Splits to embed; by default all of a catalogue or folder, and the gallery of an experiment."""
    images: tuple[str, ...] = ()
    """Where a catalogue has its photos: a column, or a template such as images/{id}.jpg, or several. By default as the
    run's data has it, if that is a Catalogue."""
    id: str | None = None
    """The catalogue's column of unique ids; by default as the run's data has it, or else "id"."""
    title: str | None = None
    """The catalogue's column of titles; by default as the run's data has it, or else "title" if it is there."""
    delimiter: str | None = None
    """What is between the values of a text file, such as ";" or "tab"; by default it is found."""
    encoding: str | None = None
    """Of a text file, such as cp1252; by default it is found."""
    network: Network = "student"
    """Which of the run's networks, if it has a teacher."""
    max_bad_share: float | None = None
    """Share of unreadable photos above which it stops; by default that of the run."""
    trust_code: TrustCode = False


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
class IndexAdviceOptions:
    """Measure exact search, ScaNN and (if it is installed) FAISS on the vectors of a file, such as
    RUN/embeddings/test.npz, and recommend the quickest index that finds enough and keeps up."""

    embeddings: tyro.conf.Positional[Path]
    """An .npz file of embeddings."""
    recall: float = 0.95
    """The least share of the true ten nearest that must be found."""
    updates_per_hour: float = 0
    """How many items come or change."""
    metric: Metric = "cosine"
    """What the nearest is: by cosine, by dot product, or by squared distance (l2)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("index_advice.png")
    """The picture of recall against speed, a PNG file."""


def embed(arguments: list[str]) -> None:
    """`ssljax embed RUN DATA -o FILE`."""
    options = tyro.cli(EmbedOptions, args=arguments, prog="ssljax embed")
    if options.output.suffix not in SUFFIXES:
        raise UserError(f"output={options.output} must end in .npz or .parquet: try {options.output}.npz")
    run = Run(options.run)
    experiment = experiment_of(run, options.trust_code, NETWORK_ALONE)
    data, splits = _data(options, experiment)
    share = experiment.max_bad_share if options.max_bad_share is None else options.max_bad_share
    bad_inputs = options.output.with_name(f"{options.output.name}.bad_inputs.csv")
    experiment = dataclasses.replace(experiment, data=data, max_bad_share=share)
    restored = Restored.of(run, experiment, bad_inputs=bad_inputs)
    photos = sum(len(restored.load(split)) for split in splits)
    console.print(f"Embedding {photos:,} photos ...")
    with writing(bad_inputs, "--output"):
        bad_inputs.unlink(missing_ok=True)  # of another time, and perhaps of other data
    embeddings = restored.embed(splits, options.network)
    with writing(options.output, "--output"):
        embeddings.save(options.output)
    bad = photos - len(embeddings)
    listed = f"; {bad:,} cannot be read, and are listed in {bad_inputs}" if bad else ""
    console.print(f"{len(embeddings):,} of {photos:,} photos in {embeddings.vectors.shape[1]:,} dimensions{listed}.")
    print_result(options.output)


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
    if not options.embeddings:
        raise UserError("name at least one file of embeddings: ssljax index FILE... -o INDEX")
    embeddings = Embeddings.joined([Embeddings.load(path) for path in options.embeddings])
    with writing(options.output, "--output"):
        save_collection(options.output, options.settings, embeddings)
    console.print(f"{len(embeddings):,} items in {embeddings.vectors.shape[1]:,} dimensions.")
    print_result(options.output)


def index_advice(arguments: list[str]) -> None:
    """`ssljax index-advice EMBEDDINGS [OPTIONS]`."""
    options = tyro.cli(IndexAdviceOptions, args=arguments, prog="ssljax index-advice")
    check_png(options.output)
    found = advice.index_advice(
        Embeddings.load(options.embeddings).vectors,
        recall=options.recall,
        updates_per_hour=options.updates_per_hour,
        metric=options.metric,
        progress=lambda kind: console.print(f"{kind} ..."),
    )
    printed = Table("", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("recall\n@10", "queries\n/s", "p50\nms", "p99\nms", "build\ns", "MiB", "updates\n/h"):
        printed.add_column(name, justify="right", no_wrap=True)
    for row in found.shown:
        figures = (row.qps, row.p50_ms, row.p99_ms, row.build_seconds, row.memory_mib, row.updates_per_hour)
        printed.add_row(row.kind, f"{row.recall:.3f}", *map(_rounded, figures))
    print_table(printed)
    print_result(f"{found.reason[0].upper()}{found.reason[1:]}.\n\n{_command(options.embeddings, found.builder)}\n")
    write_png(options.output, lambda file: advice.plot(found.rows, file))
    print_result(options.output)


def _rounded(figure: float) -> str:
    """In at most seven characters."""
    if figure >= 1e6:
        return f"{figure / 1e6:,.0f} M"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}" if figure >= 0.001 else "< 0.001"


def _command(embeddings: Path, builder: Builder) -> str:
    """What builds such an index of the embeddings."""
    kind = next(name for name, kind in KINDS.items() if isinstance(builder, kind))
    words = ["ssljax", "index", str(embeddings), "-o", f"{embeddings.stem}.index", "--kind", kind]
    for field in dataclasses.fields(builder):
        value, option = getattr(builder, field.name), field.name.replace("_", "-")
        if value != field.default:
            words += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    return shlex.join(words)


def _data(options: EmbedOptions, experiment: Experiment) -> tuple[Any, tuple[str, ...]]:
    """The source that DATA names, and which of its splits are to be embedded."""
    if options.data.suffix == ".py" or options.data.is_dir():
        for name in ("images", "id", "title", "delimiter", "encoding"):
            if getattr(options, name):
                raise UserError(f"--{name} is of a catalogue file, and {options.data} is none: leave it out")
    if options.data.suffix == ".py":
        other, _ = load_experiments(options.data)
        return other.data, options.splits or other.gallery
    everything = (1.0, 0.0, 0.0)  # in the train split
    if options.data.is_dir():
        data = Folder(str(options.data.absolute()))
        if splits := options.splits or data.split_names():
            return data, splits
        return dataclasses.replace(data, shares=everything), ("train",)
    check_no_address(str(options.data), "data")
    path = str(options.data.absolute())
    trained = source_of(experiment)
    data = dataclasses.replace(trained, path=path) if isinstance(trained, Catalogue) else Catalogue(path)
    images = options.images[0] if len(options.images) == 1 else options.images or data.images
    data = dataclasses.replace(data, images=images, id=options.id or data.id)
    data = dataclasses.replace(data, delimiter=options.delimiter, encoding=options.encoding)
    data = dataclasses.replace(data, label=None, listing=None, attributes=(), title=options.title or data.title)
    if (
        data.title
        and not options.title
        and comparable(data.title) not in read_table(Path(path), options.delimiter, options.encoding)
    ):
        data = dataclasses.replace(data, title=None)  # of the run's own catalogue
    if options.splits:
        return data, options.splits
    return dataclasses.replace(data, split=None, shares=everything), ("train",)
