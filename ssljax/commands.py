"""What each command of `ssljax` does, from its arguments on."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from ssljax import finish, loop
from ssljax.config import Experiment, load_experiments
from ssljax.data.decode import BadImage, decode
from ssljax.logging import console, print_table
from ssljax.retrieval import open_index
from ssljax.run import Run, read_json
from ssljax.sharding import is_first_process, join_processes
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train an experiment. The same command again continues it, or shows its table if it is complete."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    restart: bool = False
    """Delete the run folder and start anew."""
    runs: Path = Path("runs")
    """Folder of the run folders."""
    distributed: bool = False
    """Train in several processes, each started with this command; they share the folder of the run folders."""


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Train all experiments of a file's `sweep`; those that are complete are kept, so the same command continues."""

    only: int | None = None
    """Train only this one; the first is 0."""
    restart: bool = False
    """Delete the run folders and start anew."""
    runs: Path = Path("runs")
    """Folder of the run folders."""
    distributed: bool = False
    """Train in several processes, each started with this command; they share the folder of the run folders."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a command does to a complete run."""

    run: tyro.conf.Positional[Path]
    """The run folder."""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The items of a run's index that are nearest to a photo."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    photo: tyro.conf.Positional[Path]
    """An image file."""
    k: int = 10
    """How many items."""


def train(arguments: list[str]) -> None:
    """`ssljax train FILE [OPTIONS]`."""
    source, rest = _file_first("train", arguments)
    config, _ = load_experiments(source)
    options = tyro.cli(TrainOptions, args=rest, default=TrainOptions(config), prog=f"ssljax train {source}")
    _join_processes(options.distributed)
    again = shlex.join(["ssljax", "train", *(a for a in arguments if a != "--restart")])
    recorded = {"arguments": [a for a in rest if a != "--restart"], "position": None}
    results = _train(source, options.experiment, recorded, again, options.runs, options.restart)
    if results and is_first_process():
        _print_table(results["table"])
        _say_what_next(Run(options.runs / options.experiment.name))


def sweep(arguments: list[str]) -> None:
    """`ssljax sweep FILE [OPTIONS]`."""
    source, rest = _file_first("sweep", arguments)
    _, experiments = load_experiments(source)
    if not experiments:
        raise UserError(f"{source} defines no `sweep`, a list of experiments")
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise UserError(f"the experiments of {source} must differ in name, but are {', '.join(names)}")
    options = tyro.cli(SweepOptions, args=rest, prog=f"ssljax sweep {source}")
    if options.only is not None and not 0 <= options.only < len(experiments):
        raise UserError(f"only={options.only}: the sweep of {source} has 0 to {len(experiments) - 1}")
    _join_processes(options.distributed)
    again = shlex.join(["ssljax", "sweep", *(a for a in arguments if a != "--restart")])
    for experiment in experiments:
        loop.Setting.of(experiment)  # a mistake in the last one should not show after the first ones are trained
    table: dict[str, Any] = {}
    for position, experiment in enumerate(experiments):
        if options.only not in (None, position):
            continue
        console.print(experiment.name, style="bold")
        recorded = {"arguments": [], "position": position}
        results = _train(source, experiment, recorded, again, options.runs, options.restart)
        if results is None:
            return
        table[experiment.name] = results["table"]["trained"]
        baseline = results["table"]["raw pixels"]
    if is_first_process():
        _print_table(table | {"raw pixels": baseline})


def evaluate(arguments: list[str]) -> None:
    """`ssljax evaluate RUN`: evaluates the newest checkpoint, and writes results, index and report anew."""
    run = Run(_run_options("evaluate", arguments).run)
    setting = loop.Setting.of(_experiment_of(run))
    results = loop.evaluate_run(setting, run)
    _print_table(results["table"])


def report(arguments: list[str]) -> None:
    """`ssljax report RUN`."""
    run = Run(_run_options("report", arguments).run)
    experiment = _experiment_of(run)
    if not run.results.exists():
        raise UserError(f"{run.path} is not complete: train it to the end first")
    print(finish.report(run, experiment, experiment.data.load, finish.saved_embeddings(run)))


def search(arguments: list[str]) -> None:
    """`ssljax search RUN PHOTO`."""
    options = tyro.cli(SearchOptions, args=arguments, prog="ssljax search")
    run = Run(options.run)
    experiment = _experiment_of(run)
    if not run.index.exists():
        raise UserError(f"{run.path} has no index yet: train it to the end first")
    if options.k < 1:
        raise UserError(f"k={options.k} is too small: it must be at least 1")
    try:
        image, aspect = decode(options.photo, experiment.photo_size)
    except BadImage as error:
        raise UserError(f"{options.photo} cannot be read: {error}") from None
    query = loop.embed_photo(loop.Setting.of_run(experiment, run), run, image, aspect)
    ids, scores = open_index(run.index).search(query[None], options.k)
    _print_nearest(run, experiment, list(ids[0]), scores[0])


def _join_processes(distributed: bool) -> None:
    if distributed:
        join_processes()
        console.quiet = not is_first_process()


def _train(
    source: Path, experiment: Experiment, recorded: dict[str, Any], again: str, runs: Path, restart: bool
) -> dict[str, Any] | None:
    run = Run(runs / experiment.name)
    setting = loop.Setting.of(experiment)
    run.prepare(experiment, source, recorded, setting.data, restart=restart)
    if run.results.exists():
        console.print(f"{run.path} is complete; --restart trains it anew.")
        return read_json(run.results)
    return loop.train(setting, run, command=again)


def _experiment_of(run: Run) -> Experiment:
    """The experiment of a run folder: its copy of the file, with the options it was trained with."""
    if not run.source.is_file() or not run.options.is_file():
        raise UserError(f"{run.path} is not a run folder: it has no experiment.py and options.json")
    recorded = read_json(run.options)
    config, experiments = load_experiments(run.source)
    if recorded["position"] is not None:
        return experiments[recorded["position"]]
    return tyro.cli(TrainOptions, args=recorded["arguments"], default=TrainOptions(config)).experiment


def _file_first(command: str, arguments: list[str]) -> tuple[Path, list[str]]:
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"an experiment file comes first: ssljax {command} experiments/quickstart.py [OPTIONS]")
    return Path(arguments[0]), arguments[1:]


def _run_options(command: str, arguments: list[str]) -> RunOptions:
    return tyro.cli(RunOptions, args=arguments, prog=f"ssljax {command}")


def _print_table(table: dict[str, dict[str, float]]) -> None:
    """A line a figure, a column for each way to embed."""
    printed = Table("", *table)
    for figure in dict.fromkeys(name for values in table.values() for name in values):
        printed.add_row(figure, *(_figure(values.get(figure)) for values in table.values()))
    print_table(printed)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _print_nearest(run: Run, experiment: Experiment, ids: list[Any], scores: np.ndarray) -> None:
    embeddings = [finish.saved_embeddings(run)(split) for split in experiment.gallery]
    rows = {str(item): (part, row) for part in embeddings for row, item in enumerate(part.ids)}
    columns = list(embeddings[0].columns)
    shown = [name for name in ("title", "label", "listing") if name in columns] or columns[:3]
    printed = Table("", "score", "id", *shown)
    for rank, (item, score) in enumerate(zip(ids, scores, strict=True), 1):
        if item is None:
            break
        part, row = rows[str(item)]
        printed.add_row(str(rank), f"{score:.3f}", Text(item), *(Text(part.columns[name][row]) for name in shown))
    print_table(printed)


def _say_what_next(run: Run) -> None:
    samples = sorted(run.samples.glob("*.png"))
    photo = samples[0] if samples else "PHOTO"
    console.print(f"The report is {run.report}. Search with\n  ssljax search {run.path} {photo}")
