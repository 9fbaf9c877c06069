"""What several commands share: options, the experiment of a file or a run folder, tables, and files to write."""

import contextlib
import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, BinaryIO, Literal, TypeVar, cast, get_args

import tyro
from rich.table import Table
from tyro.constructors import PrimitiveConstructorSpec

from ssljax.config import Experiment
from ssljax.data import FewLabels, Items, NoisyTitles
from ssljax.data.atomic_files import MANIFEST, read_json, replace_file
from ssljax.evaluation import Embeddings
from ssljax.evaluation.restore import read_experiment
from ssljax.export.card import write_card
from ssljax.export.hub import local
from ssljax.report.finished_run import report
from ssljax.search import save_collection
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run
from ssljax.types import Embed, Source, UserError, settings

T = TypeVar("T")
Network = Literal["student", "teacher"]
# An experiment by its fields: options, also those of a part that may be None, such as titles, if the experiment has it.
Fields = Annotated[Experiment, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands]
RunFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="The run folder.")]
PathOrHub = Annotated[
    Path,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|hf://USER/NAME",
        instance_from_str=lambda words: local(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    ),
]
"""A path, or a run on the hub, which is downloaded; for what only reads it."""
OtherData = Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")]
TrustCode = Annotated[
    bool,
    tyro.conf.arg(
        help="Execute the run's copy of its experiment file, which may do anything: only for runs of people you trust."
    ),
]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
Delimiter = Annotated[
    str | None,
    tyro.conf.arg(help='What separates the values of a text file, such as ";" or "tab"; by default it is found.'),
]
Encoding = Annotated[
    str | None, tyro.conf.arg(help="The encoding of a text file, such as cp1252; by default it is found.")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Where:
    """Where runs lie, and which processes train them."""

    restart: bool = False
    """Delete the run folder and start anew."""
    runs: Path = Path("runs")
    """Folder of the run folders."""
    checkpoints: str | None = None
    """Folder of all runs' checkpoints, in place of the run folders: gs://BUCKET/FOLDER, or one that is shared."""
    distributed: bool = False
    """Train in several processes, each started with this command; they share --runs or --checkpoints."""
    initialization_timeout: int = 300
    """Seconds that a process of --distributed waits for the others at the start."""


@dataclasses.dataclass(frozen=True)
class TrainOptions(Where):
    """Train the experiment of a Python file, such as experiments/quickstart.py; its fields are the options. The same
    command again continues the training, or shows its table if it is complete."""

    experiment: Fields


def asks_for_help(arguments: list[str]) -> bool:
    """Whether a command that begins with an experiment file is asked for its help instead."""
    return arguments[:1] in (["--help"], ["-h"])


def file_first(command: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The experiment file that a command begins with, and the arguments after it; raises UserError without a file."""
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"an experiment file comes first: ssljax {command} experiments/quickstart.py [OPTIONS]")
    return Path(arguments[0]), arguments[1:]


def parse_with_experiment(kind: type[T], command: str, arguments: list[str]) -> tuple[Path, T]:
    """The experiment file that a command begins with, and the options after it, among them the experiment's fields."""
    if asks_for_help(arguments):
        file, rest, experiment = Path("FILE"), ["--help"], Experiment(name="NAME")
    else:
        file, rest = file_first(command, arguments)
        experiment, _ = load_experiments(file)
    return file, _with_fields(kind, experiment, rest, f"ssljax {command} {file}")


def _with_fields(kind: type[T], experiment: Experiment, arguments: list[str], prog: str) -> T:
    """Options, among them the fields of an experiment.

    tyro makes options of the fields of a part such as titles, and none that leaves the part out: `--titles None`, where
    the part may be None, is read here.
    """
    rest: list[str] = []
    for word in arguments:
        pair = f"{rest[-1]}={word}" if rest and word == "None" else word
        names = pair.removeprefix("--").removesuffix("=None").replace("-", "_").split(".")
        without = _without(experiment, names) if pair.startswith("--") and pair.endswith("=None") else None
        if without is None:
            rest.append(word)
        else:
            experiment, rest = without, rest if pair is word else rest[:-1]
    default: T = cast(Any, kind)(experiment)
    return tyro.cli(kind, args=rest, default=default, prog=prog)


def _without(value: Any, path: list[str]) -> Any:
    """`value` with None for the part at a path; None if no part is there that may be None."""
    name, *inside = path
    if isinstance(value, tuple) and inside and name.isdecimal() and int(name) < len(value):
        part = _without(value[int(name)], inside)
        return None if part is None else (*value[: int(name)], part, *value[int(name) + 1 :])
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    for field in settings(value):
        if field.name == name:
            part, kinds = getattr(value, name), get_args(field.type)
            part = _without(part, inside) if inside else part
            if inside and part is not None:
                return dataclasses.replace(value, **{name: part})
            if not inside and NoneType in kinds and any(map(dataclasses.is_dataclass, (part, *kinds))):
                return dataclasses.replace(value, **{name: None})
    return None


def write_index(
    run: Run, experiment: Experiment, load: Callable[[str], Items], embed: Embed, results: dict[str, Any]
) -> None:
    """Saves the index of a finished run, of the gallery's splits."""
    save_collection(run.index, experiment.index, Embeddings.joined([embed(split) for split in experiment.gallery]))


EXPORTS = (write_index, report, write_card)
"""What a finished run leaves beside what training writes."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    run = Run(folder)
    return run.config.exists() or run.source.exists()


def is_index(folder: Path) -> bool:
    """Whether a folder is an index that `ssljax index` built."""
    return (folder / MANIFEST).exists()


def photos_by_id(load: Callable[[], Iterable[Items]]) -> Callable[[str], Any]:
    """Id → the photo of an item, as `decode` reads it, or None if there is none; `load` is called when first asked."""

    @functools.cache
    def rows() -> dict[str, tuple[Items, int]]:
        return {str(id): (items, row) for items in load() for row, id in enumerate(items.ids)}

    def photo(id: str) -> Any:
        items, row = rows().get(id, (None, 0))
        return None if items is None else items.photos[row]

    return photo


def new_bad_inputs(output: Path) -> Path:
    """The file beside `output` that lists photos which cannot be read, without what other data left in it.

    Raises UserError if it cannot be deleted.
    """
    path = output.with_name(f"{output.name}.bad_inputs.csv")
    with writing(path, "--output"):
        path.unlink(missing_ok=True)
    return path


def experiment_of(run: Run, trust_code: bool = False, without: Sequence[str] = ("sampler", "monitor")) -> Experiment:
    """The experiment of a run folder, by its config.json; the parts named by `without` are not needed.

    With `trust_code` the run's copy of the experiment file is executed instead, with the options it was trained with.
    """
    if not trust_code:
        return read_experiment(run, without)
    for file in (run.options, run.source):
        if not os.path.isfile(file):
            raise UserError(
                f"{run.path} is not a run folder, as it has no {file.name}: "
                "name one that `ssljax train` made, or put the file back by the command that trained it"
            )
    remedy = "the `ssljax train` or `ssljax sweep` command of this run writes it anew"
    recorded = read_json(run.options, remedy, "arguments", "position")
    config, experiments = load_experiments(run.source)
    position, arguments = recorded["position"], recorded["arguments"]
    if position in range(len(experiments)):
        return experiments[position]
    if position is not None or not isinstance(arguments, list) or not all(isinstance(a, str) for a in arguments):
        raise UserError(f"{run.options} does not fit {run.source}: {remedy}")
    return _with_fields(TrainOptions, config, arguments, f"ssljax train {run.source}").experiment


def on_other_data(experiment: Experiment, data: Path) -> tuple[Experiment, str]:
    """A run's experiment with the data and the evaluators of another experiment's file, and that experiment's name."""
    other, _ = load_experiments(data)
    return dataclasses.replace(experiment, data=other.data, evaluate=other.evaluate), other.name


def source_of(experiment: Experiment) -> Source:
    """The data of an experiment, without what keeps only a few labels or changes the titles."""
    source = experiment.data
    while isinstance(source, FewLabels | NoisyTitles):
        source = source.data
    return source


def complete_experiment_of(run: Run, trust_code: bool) -> Experiment:
    """The experiment of a run folder; raises UserError unless the run is complete."""
    experiment = experiment_of(run, trust_code)
    if not run.results.exists():
        raise UserError(f"{run.path} is not complete: train it to the end first")
    results_of(run, f"`{command_line('evaluate', [str(run.path)])}` writes it anew")
    return experiment


def results_of(run: Run, remedy: str) -> dict[str, Any]:
    """The results of a complete run; raises UserError, ending in `remedy`, if the file is damaged."""
    results = read_json(run.results, remedy, "table")
    table = results["table"]
    if not isinstance(table, dict) or "trained" not in table:
        raise UserError(f"{run.results} is damaged (its table has no row of the trained network): {remedy}")
    figures = [figure for row in table.values() for figure in (row.values() if isinstance(row, dict) else [None])]
    if not all(isinstance(figure, int | float) for figure in figures):
        raise UserError(f"{run.results} is damaged (a figure of its table is not a number): {remedy}")
    return results


def print_figures(table: Mapping[str, Mapping[str, float | None]]) -> None:
    """Prints a table of the figures: one row each, and a column for each embedding."""
    printed = Table("", *table)
    for name in dict.fromkeys(name for values in table.values() for name in values):
        printed.add_row(name, *(figure(values.get(name)) for values in table.values()))
    print_table(printed)


def print_verdict(results: dict[str, Any], of: str = "") -> None:
    """Prints what the results say in words, each sentence after `of`."""
    for sentence in results.get("verdict", ()):  # earlier versions wrote none
        console.print(f"{of}{sentence}")


def figure(value: float | None) -> str:
    """A figure as tables show it; nothing for None."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def command_line(command: str, arguments: list[str]) -> str:
    """A command as it is typed in a shell."""
    return shlex.join(["ssljax", command, *arguments])


def check_at_least_one(**options: int) -> None:
    """Raises UserError if an option is below 1."""
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{name}={value} is too small: it must be at least 1")


@contextlib.contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Within it `path` is written; raises UserError, naming the `option` that chose the path, if it cannot be."""
    if not path.name:
        raise UserError(f"{path} cannot be written (it names no file): choose another {option}")
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another {option}") from None


def check_png(output: Path) -> None:
    """Raises UserError if the name does not end in .png."""
    if output.suffix != ".png":
        raise UserError(f"output={output} must end in .png: try {output.name or 'picture'}.png")


def write_png(output: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a PNG file, whole or not at all, and prints its name; raises UserError if it cannot be written."""
    with writing(output, "--output"):
        replace_file(output, write)
    print_result(output)
