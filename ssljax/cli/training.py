"""Commands that train."""

import contextlib
import dataclasses
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.table import Table

from ssljax.cli.shared import (
    EXPORTS,
    TrainOptions,
    figure,
    file_first,
    print_figures,
    print_verdict,
    results_of,
    writing,
)
from ssljax.config import Experiment
from ssljax.data.atomic_files import write_json
from ssljax.evaluation.embeddings import BASELINE
from ssljax.sharding import is_first_process, is_lost_process, join_processes
from ssljax.training import export as finish
from ssljax.training import loop
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_table
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import RunStopped, UserError


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Train all experiments of the `sweep` of a Python file, such as experiments/moco_fashion.py; those that are
    complete are kept, so the same command continues."""

    only: int | None = None
    """Train only this one; the first is 0."""
    restart: bool = False
    """Delete the run folders and start anew."""
    runs: Path = Path("runs")
    """Folder of the run folders."""
    results: Path = Path("results")
    """Folder that gets what each run found, <name>.json."""
    distributed: bool = False
    """Train in several processes, each started with this command; they share the folder of the run folders."""


def train(arguments: list[str]) -> None:
    """`ssljax train FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(TrainOptions, args=["--help"], default=TrainOptions(Experiment(name="NAME")), prog="ssljax train FILE")
    source, rest = file_first("train", arguments)
    config, _ = load_experiments(source)
    options = tyro.cli(TrainOptions, args=rest, default=TrainOptions(config), prog=f"ssljax train {source}")
    again = shlex.join(["ssljax", "train", *(a for a in arguments if a != "--restart")])
    recorded = {"arguments": [a for a in rest if a != "--restart"], "position": None}
    with _processes(options.distributed, again):
        results = _train(source, options.experiment, recorded, again, options.runs, options.restart)
        if results and is_first_process():
            print_figures(results["table"])
            print_verdict(results)
            _say_what_next(Run(options.runs / options.experiment.name))


def sweep(arguments: list[str]) -> None:
    """`ssljax sweep FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(SweepOptions, args=["--help"], prog="ssljax sweep FILE")
    source, rest = file_first("sweep", arguments)
    _, experiments = load_experiments(source)
    if not experiments:
        raise UserError(f"{source} defines no `sweep`, a list of experiments")
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise UserError(f"the experiments of {source} must differ in name, but are {', '.join(names)}")
    options = tyro.cli(SweepOptions, args=rest, prog=f"ssljax sweep {source}")
    if options.only is not None and not 0 <= options.only < len(experiments):
        raise UserError(f"only={options.only}: the sweep of {source} has 0 to {len(experiments) - 1}")
    again = shlex.join(["ssljax", "sweep", *(a for a in arguments if a != "--restart")])
    with _processes(options.distributed, again):
        _train_all(source, experiments, options, again)


def _train_all(source: Path, experiments: Sequence[Experiment], options: SweepOptions, again: str) -> None:
    for experiment in experiments:
        Setup.of(experiment)  # a mistake in the last one should not show after the first ones are trained
    table, baseline = {}, {}
    for position, experiment in enumerate(experiments):
        if options.only not in (None, position):
            continue
        console.print(experiment.name, style="bold")
        recorded = {"arguments": [], "position": position}
        results = _train(source, experiment, recorded, again, options.runs, options.restart)
        if results is None:
            return
        for row in ("trained", "teacher"):
            if row in results["table"]:
                name = experiment.name if row == "trained" else f"{experiment.name}, teacher"
                table[name] = results["table"][row]
        baseline |= {name: row for name, row in results["table"].items() if name == BASELINE}
        print_verdict(results, f"{experiment.name}: ")
        if is_first_process():
            path = options.results / f"{experiment.name}.json"
            with writing(path, "--results"):
                write_json(path, results)
    if is_first_process():
        _print_runs(table | baseline)


@contextlib.contextmanager
def _processes(distributed: bool, again: str) -> Iterator[None]:
    """Within it the processes of --distributed are one training; raises RunStopped if another one is gone."""
    if not distributed:
        yield
        return
    lost = f"another process of this training has ended, or is out of reach: start all of them again with\n  {again}"
    join_processes(f"ssljax: {lost}")
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX has taken it for itself
    console.quiet = not is_first_process()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if is_lost_process(error):
            raise RunStopped(lost) from None
        raise


def _train(
    source: Path, experiment: Experiment, recorded: dict[str, Any], again: str, runs: Path, restart: bool
) -> dict[str, Any] | None:
    run = Run(runs / experiment.name)
    setup = Setup.of(experiment)
    run.prepare(experiment, source, recorded, setup.data, restart=restart)
    missing = finish.missing(run, experiment)
    if run.results in missing:
        return loop.train(setup, run, command=again, exports=EXPORTS)
    results = results_of(run, "delete it, and the same command writes it anew")
    if missing and any(run.checkpoints.glob("[0-9]*")):
        console.print(f"{missing[0]} is missing: what follows training is made anew.")
        return loop.train(setup, run, command=again, exports=EXPORTS)
    if missing:
        console.print(f"{missing[0]} is missing, and there is no checkpoint to make it by.")
    console.print(f"{run.path} is complete; --restart trains it anew.")
    return results


def _print_runs(table: dict[str, dict[str, float]]) -> None:
    """A line a run, a column for each figure, of those that fit the screen."""
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


def _say_what_next(run: Run) -> None:
    samples = sorted(run.samples.glob("*.png"))
    photo = samples[0] if samples else "PHOTO"
    command = shlex.join(["ssljax", "search", str(run.path), str(photo)])
    console.print(f"The report is {run.report}. Search with\n  {command}")
