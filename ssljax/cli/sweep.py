"""`ssljax sweep`: trains all experiments of a file, and prints one table."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import tyro
from rich.table import Table

from ssljax.cli.shared import Where, asks_for_help, command_line, figure, file_first, print_verdict, writing
from ssljax.cli.train import processes, train_run
from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.atomic_files import write_json
from ssljax.evaluation.embeddings import BASELINE
from ssljax.sharding import is_first_process
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_table
from ssljax.training.setup import Setup
from ssljax.types import Source, UserError


@dataclasses.dataclass(frozen=True)
class SweepOptions(Where):
    """Train all experiments of the `sweep` of a Python file, such as experiments/moco_fashion.py; those that are
    complete are kept, so the same command continues."""

    only: int | None = None
    """Train only this one; the first is 0."""
    results: Path = Path("results")
    """Folder for the results of each run, <name>.json."""


def main(arguments: list[str]) -> None:
    """`ssljax sweep FILE [OPTIONS]`."""
    if asks_for_help(arguments):
        tyro.cli(SweepOptions, args=["--help"], prog="ssljax sweep FILE")
    file, rest = file_first("sweep", arguments)
    _, experiments = load_experiments(file)
    if not experiments:
        raise UserError(f"{file} defines no `sweep`, a list of experiments")
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise UserError(f"the experiments of {file} must differ in name, but are {', '.join(names)}")
    options = tyro.cli(SweepOptions, args=rest, prog=f"ssljax sweep {file}")
    if options.only is not None and not 0 <= options.only < len(experiments):
        raise UserError(f"only={options.only}: the sweep of {file} has 0 to {len(experiments) - 1}")
    again = command_line("sweep", [argument for argument in arguments if argument != "--restart"])
    with processes(options, again):
        _train_all(file, experiments, options, again)


def _train_all(file: Path, experiments: list[Experiment], options: SweepOptions, again: str) -> None:
    chosen = experiments if options.only is None else [experiments[options.only]]
    loads: list[tuple[Source, Callable[[str], Items]]] = []  # by equality, as sources of others need no hash
    for experiment in chosen:  # so that a mistake in the last one shows before the first is trained
        load = next((load for data, load in loads if data == experiment.data), None)
        if load is None:
            load = functools.cache(experiment.data.load)
            loads.append((experiment.data, load))
        Setup.of(experiment, load=load)
    loads.clear()
    table: dict[str, dict[str, float]] = {}
    baseline: dict[str, dict[str, float]] = {}
    for experiment in chosen:
        position = experiments.index(experiment)
        console.print(experiment.name, style="bold")
        recorded = {"arguments": [], "position": position}
        results = train_run(file, experiment, recorded, again, options)
        if results is None:
            return
        if not is_first_process():
            continue
        for row in ("trained", "teacher"):
            if row in results["table"]:
                name = experiment.name if row == "trained" else f"{experiment.name}, teacher"
                table[name] = results["table"][row]
        baseline |= {name: row for name, row in results["table"].items() if name == BASELINE}
        print_verdict(results, f"{experiment.name}: ")
        path = options.results / f"{experiment.name}.json"
        with writing(path, "--results"):
            write_json(path, results)
    if is_first_process():
        _print_runs(table | baseline)


def _print_runs(table: dict[str, dict[str, float]]) -> None:
    """Prints a row for each run, with the first figures, as many as fit the screen."""
    figures = list(dict.fromkeys(name for values in table.values() for name in values))
    room, shown = console.width - max(map(len, table)) - 4, 0  # a column needs three places more than its text
    while shown < len(figures) and (not shown or room >= len(figures[shown]) + 3):
        room -= len(figures[shown]) + 3
        shown += 1
    printed = Table("", *figures[:shown])
    for run, values in table.items():
        printed.add_row(run, *(figure(values.get(name)) for name in figures[:shown]))
    print_table(printed)
    if shown < len(figures):
        console.print(f"{len(figures) - shown} more figures are in the records.")
