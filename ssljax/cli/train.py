"""`ssljax train`: trains an experiment, or goes on with it."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ssljax.cli.shared import (
    EXPORTS,
    TrainOptions,
    Where,
    check_at_least_one,
    command_line,
    parse_with_experiment,
    print_figures,
    print_verdict,
    results_of,
)
from ssljax.config import Experiment
from ssljax.sharding import first_says, is_first_process, is_lost_process, join_processes
from ssljax.training import export, loop
from ssljax.training.logging import console
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import RunStopped


def main(arguments: list[str]) -> None:
    """`ssljax train FILE [OPTIONS]`."""
    file, options = parse_with_experiment(TrainOptions, "train", arguments)
    kept = [argument for argument in arguments if argument != "--restart"]
    recorded, again = {"arguments": kept[1:], "position": None}, command_line("train", kept)
    with processes(options, again):
        results = train_run(file, options.experiment, recorded, again, options)
        if results and is_first_process():
            print_figures(export.shown_table(results))
            print_verdict(results)
            folder = Run(options.runs / options.experiment.name)
            photo = next(iter(sorted(folder.samples.glob("*.png"))), "PHOTO")
            search = command_line("search", [str(folder.path), str(photo)])
            console.print(f"The report is {folder.report}. Search with\n  {search}")


@contextlib.contextmanager
def processes(where: Where, again: str) -> Iterator[None]:
    """Within it the processes of --distributed are one training; raises RunStopped if another one is gone."""
    check_at_least_one(initialization_timeout=where.initialization_timeout)
    if not where.distributed:
        yield
        return
    lost = f"another process of this training has ended, or is out of reach: start all of them again with\n  {again}"
    join_processes(f"ssljax: {lost}", where.initialization_timeout)
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # JAX has taken it for itself
    console.quiet = not is_first_process()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if is_lost_process(error):
            raise RunStopped(lost) from None
        raise


def train_run(
    file: Path | None,
    experiment: Experiment,
    recorded: dict[str, Any],
    again: str,
    where: Where,
    *,
    signals: bool = True,
) -> dict[str, Any] | None:
    """Trains an experiment, or goes on with it; returns its results, or None if it was interrupted.

    Of several processes only the first reads the results of a run that was complete before; the others return {}.
    `recorded` is what options.json keeps of the command, and `again` the command that goes on with the training. With
    `signals`, Ctrl-C and SIGTERM save before they end it.
    """
    run = Run(where.runs / experiment.name, where.checkpoints)
    setup = Setup.of(experiment, None if where.restart else run.learnt)
    run.prepare(experiment, file, recorded, setup.data, setup.learnt, restart=where.restart)
    missing = export.missing(run, experiment)
    saved = bool(missing) and any(run.checkpoints.glob("[0-9]*"))
    unfinished, saved = first_says([run.results in missing, saved])  # the others may not see the first one's files
    results: dict[str, Any] = {}
    if not unfinished:
        remedy = "delete it, and the same command writes it anew"
        run.by_first(lambda: results.update(results_of(run, remedy)))
    if saved and not unfinished:
        console.print(f"{missing[0]} is missing: what follows training is made anew.")
    if saved or unfinished:
        return loop.train(setup, run, command=again, exports=EXPORTS, signals=signals)
    if missing:
        console.print(f"{missing[0]} is missing, and there is no checkpoint to make it by.")
    console.print(f"{run.path} is complete; --restart trains it anew.")
    return results
