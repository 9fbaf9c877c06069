"""Commands that evaluate, compare and show runs."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from ssljax.cli.comparison import compare_runs
from ssljax.cli.robustness import robustness as measure_robustness
from ssljax.cli.shared import (
    EXPORTS,
    Network,
    TrustCode,
    experiment_of,
    print_figures,
    print_verdict,
    results_of,
    writing,
)
from ssljax.config import Experiment
from ssljax.data.atomic_files import read_json, write_json
from ssljax.evaluation import Robustness
from ssljax.evaluation.restore import NETWORK_ALONE, Restored, check_evaluation
from ssljax.evaluation.robustness import summary
from ssljax.report import MOST, Compared
from ssljax.report.finished_run import report as write_report
from ssljax.training import export as finish
from ssljax.training.experiment_file import load_experiments
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run, environment
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a complete run again, and write its results, index and report anew."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """Another experiment file, whose data and evaluators are taken instead of the run's; then only
    RUN/evaluation-NAME.json is written."""
    trust_code: TrustCode = False


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write RUN/report.html anew."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    by: str | None = None
    """The column that colours the map and groups failures; by default the first Retrieval's `by`, or else the label,
    or else the first attribute."""
    most: int = MOST
    """Failures shown of each category."""
    trust_code: TrustCode = False


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """What two complete runs find, on the queries of their first Retrieval: figures with intervals, and a page of what
    one finds and the other misses. Both must have been trained on the same data; items that one has alone are left
    out."""

    run_a: tyro.conf.Positional[Path]
    """A run folder."""
    run_b: tyro.conf.Positional[Path]
    """Another one."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("compare.html")
    """The page; the figures are beside it, as .json."""
    by: str | None = None
    """The column that groups cases; by default as in the report."""
    most: int = 20
    """Cases shown of each category, found by A alone and by B alone."""
    trust_code: TrustCode = False


@dataclasses.dataclass(frozen=True)
class RobustnessOptions:
    """Measure what a complete run still finds when photos are disturbed, and write RUN/robustness.html."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """Another experiment file, whose data and first Retrieval are taken instead of the run's."""
    network: Network = "student"
    """Which of the run's networks the table and the examples are of; the page has the curves of both."""
    suite: Annotated[Robustness, tyro.conf.arg(name="")] = Robustness()
    trust_code: TrustCode = False


def evaluate(arguments: list[str]) -> None:
    """`ssljax evaluate RUN [DATA]`: evaluates the newest checkpoint, and writes results, index and report anew; on
    another experiment's data only the figures, into a file of their own."""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="ssljax evaluate")
    run = Run(options.run)
    experiment = experiment_of(run, options.trust_code, () if options.data is None else NETWORK_ALONE)
    if options.data is None:
        results = finish.finish(Restored.of(run, experiment, evaluate=True), EXPORTS)
        print_figures(results["table"])
        print_verdict(results)
        return
    other, _ = load_experiments(options.data)
    experiment = dataclasses.replace(experiment, data=other.data, evaluate=other.evaluate)
    restored = Restored.of(run, experiment, bad_inputs=run.bad_inputs(other.name))
    check_evaluation(experiment.evaluate, (), restored.load)
    table = finish.evaluate(experiment, finish.table_rows(restored))
    command, path = shlex.join(["ssljax", "evaluate", *arguments]), run.evaluation(other.name)
    found = {"data": other.name, "command": command, "table": table, "verdict": finish.verdict(other, table)}
    write_json(path, found | {"environment": environment()})
    print_figures(table)
    print_verdict(found)
    console.print(f"The figures are in {path} too.")


def report(arguments: list[str]) -> None:
    """`ssljax report RUN [OPTIONS]`."""
    options = tyro.cli(ReportOptions, args=arguments, prog="ssljax report")
    _check_most(options.most)
    run = Run(options.run)
    experiment = _complete_experiment_of(run, options.trust_code)
    read_json(run.environment, "the same `ssljax train` command writes it anew")
    embed = finish.saved_embeddings(run)
    print_result(write_report(run, experiment, experiment.data.load, embed, by=options.by, most=options.most))


def compare(arguments: list[str]) -> None:
    """`ssljax compare RUN_A RUN_B [OPTIONS]`."""
    options = tyro.cli(CompareOptions, args=arguments, prog="ssljax compare")
    _check_most(options.most)
    if options.output.suffix != ".html":
        raise UserError(f"output={options.output} is no name of a page: try compare.html")
    if Run(options.output.parent).results.is_file():
        raise UserError(f"output={options.output} lies in a run folder, beside files of the run: choose another folder")
    if options.run_a.resolve() == options.run_b.resolve():
        raise UserError(f"{options.run_a} is named twice: name two runs")
    runs = Run(options.run_a), Run(options.run_b)
    experiments = tuple(_complete_experiment_of(run, options.trust_code) for run in runs)
    command = shlex.join(["ssljax", "compare", *arguments])
    kept = {"by": options.by, "most": options.most, "path": options.output, "command": command}
    with writing(options.output, "--output"):
        compared = compare_runs(runs, experiments, experiments[0].data.load, **kept)
    _print_comparison(compared)
    print_result(options.output)


def robustness(arguments: list[str]) -> None:
    """`ssljax robustness RUN [DATA] [OPTIONS]`."""
    options = tyro.cli(RobustnessOptions, args=arguments, prog="ssljax robustness")
    run, data = Run(options.run), ""
    without = ("sampler", "monitor") if options.data is None else NETWORK_ALONE
    experiment = experiment_of(run, options.trust_code, without)
    if options.data is not None:
        other, _ = load_experiments(options.data)
        data = other.name
        experiment = dataclasses.replace(experiment, data=other.data, evaluate=other.evaluate)
    command = shlex.join(["ssljax", "robustness", *arguments])
    kept = {"network": options.network, "data": data, "command": command}
    results, curves = measure_robustness(Restored.of(run, experiment), options.suite, **kept)
    queries = f"{results['queries']:,} of {results['queries_in_all']:,} queries"
    console.print(f"{queries} in {results['items']:,} photos. The page is {run.robustness(data).with_suffix('.html')}.")
    print(
        f"CMC@1: the {options.network}'s area relative to clean, by what is disturbed; and its value and that of raw "
        f"pixels at strength {options.suite.medium:g} ({options.suite.sides[0]})"
    )
    print_figures(summary(curves, options.suite, options.network))


def _complete_experiment_of(run: Run, trust_code: bool) -> Experiment:
    """The experiment of a run folder, which must be of a complete run."""
    experiment = experiment_of(run, trust_code)
    if not run.results.exists():
        raise UserError(f"{run.path} is not complete: train it to the end first")
    results_of(run, f"`ssljax evaluate {shlex.quote(str(run.path))}` writes it anew")
    return experiment


def _check_most(most: int) -> None:
    if most < 1:
        raise UserError(f"most={most} is too small: it must be at least 1")


def _print_comparison(compared: Compared) -> None:
    """A line a figure, and who finds more."""
    printed = Table("", *compared.names, "difference", "95 %", "p")
    for name, found in compared.differences.items():
        means = (f"{means[name]:.3f}" for means in compared.means)
        ends = f"{found.low:+.3f} {found.high:+.3f}"
        printed.add_row(name, *means, f"{found.mean:+.3f}", ends, f"{found.p_value:.3f}")
    print_table(printed)
    for name, count in compared.facts.items():
        if count:
            console.print(f"{name}: {count}")
    console.print(compared.statement)
