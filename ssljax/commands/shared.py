"""What several commands need: the experiment of a run folder, and tables."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from ssljax.config import Experiment, load_experiments
from ssljax.files import read_json
from ssljax.logging import print_table
from ssljax.run import Run
from ssljax.types import UserError


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


def experiment_of(run: Run) -> Experiment:
    """The experiment of a run folder: its copy of the file, with the options it was trained with."""
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


def print_figures(table: dict[str, dict[str, float]]) -> None:
    """A line a figure, a column for each way to embed."""
    printed = Table("", *table)
    for name in dict.fromkeys(name for values in table.values() for name in values):
        printed.add_row(name, *(figure(values.get(name)) for values in table.values()))
    print_table(printed)


def figure(value: float | None) -> str:
    """As a table shows it."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
