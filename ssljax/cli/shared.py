"""What several commands need: the experiment of a file or a run folder, tables, and files that cannot be written."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import tyro
from rich.table import Table

from ssljax.config import Experiment
from ssljax.data import FewLabels, Items
from ssljax.data.atomic_files import read_json, replace_file
from ssljax.evaluation import Embeddings
from ssljax.evaluation.restore import read_experiment
from ssljax.report.finished_run import report
from ssljax.search import save_collection
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_table
from ssljax.training.run_folder import Run
from ssljax.types import Embed, UserError

Network = Literal["student", "teacher"]
TrustCode = Annotated[
    bool,
    tyro.conf.arg(
        help="Execute the run's copy of its experiment file, which may do anything: only for runs of people you trust."
    ),
]


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train the experiment of a Python file, such as experiments/quickstart.py; its fields are the options. The same
    command again continues the training, or shows its table if it is complete."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    restart: bool = False
    """Delete the run folder and start anew."""
    runs: Path = Path("runs")
    """Folder of the run folders."""
    distributed: bool = False
    """Train in several processes, each started with this command; they share the folder of the run folders."""


def file_first(command: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The experiment file that a command begins with, and the arguments after it; raises UserError if none is there."""
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"an experiment file comes first: ssljax {command} experiments/quickstart.py [OPTIONS]")
    return Path(arguments[0]), arguments[1:]


def write_index(
    run: Run, experiment: Experiment, load: Callable[[str], Items], embed: Embed, results: dict[str, Any]
) -> None:
    """Saves the index of a finished run, of the gallery's splits."""
    save_collection(run.index, experiment.index, Embeddings.joined([embed(split) for split in experiment.gallery]))


EXPORTS = (write_index, report)
"""What a finished run leaves beside what training writes."""


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
    default = TrainOptions(config)
    return tyro.cli(TrainOptions, args=arguments, default=default, prog=f"ssljax train {run.source}").experiment


def source_of(experiment: Experiment) -> Any:
    """The data of an experiment, whether or not only a few labels of it are kept."""
    return experiment.data.data if isinstance(experiment.data, FewLabels) else experiment.data


def results_of(run: Run, remedy: str) -> dict[str, Any]:
    """The results of a complete run; raises UserError, ending in `remedy`, if the file is damaged."""
    results = read_json(run.results, remedy, "table")
    table = results["table"]
    if not isinstance(table, dict) or "trained" not in table:
        raise UserError(f"{run.results} is damaged (its table lacks a row): {remedy}")
    figures = [figure for row in table.values() for figure in (row.values() if isinstance(row, dict) else [None])]
    if not all(isinstance(figure, int | float) for figure in figures):
        raise UserError(f"{run.results} is damaged (its table holds what is no number): {remedy}")
    return results


def print_figures(table: dict[str, dict[str, float]]) -> None:
    """A line a figure, a column for each way to embed."""
    printed = Table("", *table)
    for name in dict.fromkeys(name for values in table.values() for name in values):
        printed.add_row(name, *(figure(values.get(name)) for values in table.values()))
    print_table(printed)


def print_verdict(results: dict[str, Any], of: str = "") -> None:
    """What the results say in words, below their table."""
    for sentence in results.get("verdict", ()):  # there is none in those of an earlier version
        console.print(f"{of}{sentence}")


def figure(value: float | None) -> str:
    """As a table shows it."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


@contextlib.contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Within it `path` is written, which `option` names; raises UserError if it cannot be."""
    if not path.name:
        raise UserError(f"{path} cannot be written (it names no file): choose another {option}")
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another {option}") from None


def check_png(output: Path) -> None:
    """Raises UserError if it is no name of a PNG file."""
    if output.suffix != ".png":
        raise UserError(f"output={output} is no name of a PNG file: try {output.name or 'picture'}.png")


def write_png(output: Path, write: Callable[[BinaryIO], Any]) -> None:
    """A PNG file, whole or not at all; raises UserError if it cannot be written."""
    with writing(output, "--output"):
        replace_file(output, write)
