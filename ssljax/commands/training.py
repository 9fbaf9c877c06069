"""Commands that train, evaluate and show runs."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import tyro
from rich.markup import escape
from rich.table import Table

from ssljax import finish, loop
from ssljax.commands.shared import TrainOptions, experiment_of, figure, print_figures
from ssljax.comparison import compare_runs
from ssljax.config import Experiment, load_experiments
from ssljax.contact_sheet import contact_sheet
from ssljax.data import Catalogue
from ssljax.files import read_json, replace_file, write_json
from ssljax.logging import console, print_table
from ssljax.retrieval import Embeddings, Robustness, advice
from ssljax.retrieval.embeddings import BASELINE
from ssljax.retrieval.index import Metric
from ssljax.retrieval.report import MOST, Compared
from ssljax.retrieval.robustness import summary
from ssljax.run import Run, environment
from ssljax.sharding import is_first_process, join_processes
from ssljax.types import UserError
from ssljax.unmark import PAGE
from ssljax.unmark import unmark as unmark_catalogue


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


@dataclasses.dataclass(frozen=True)
class ViewsOptions:
    """Draw photos of an experiment's train split, their random views, and its disturbances at growing strengths (all
    there are, if it has none). The experiment's fields are options: another --seed shows other photos."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("views.png")
    """The picture, a PNG file."""
    rows: int = 6
    """How many photos."""


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


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a complete run again, and write its results, index and report anew."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """Another experiment file, whose data and evaluators are taken instead of the run's; then only
    RUN/evaluation-NAME.json is written."""


@dataclasses.dataclass(frozen=True)
class RobustnessOptions:
    """Measure what a complete run still finds when photos are disturbed, and write RUN/robustness.html."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DATA]")] = None
    """Another experiment file, whose data and first Retrieval are taken instead of the run's."""
    suite: Annotated[Robustness, tyro.conf.arg(name="")] = Robustness()


@dataclasses.dataclass(frozen=True)
class UnmarkOptions:
    """Copy a catalogue and its photos to a new folder, with the marks removed that lie over all photos of a seller at
    one place. Look at FOLDER/before_after.html before you train on the copy."""

    catalogue: tyro.conf.Positional[Path]
    """The .csv, .parquet or .jsonl file; its photos must lie under its folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder to be made."""
    by: str | None = None
    """The column of sellers; without it all photos are taken for those of one."""
    leave: tuple[str, ...] = ()
    """Sellers whose photos are copied as they are."""
    images: tuple[str, ...] = ("images/{id}.jpg",)
    """Where a row's photos are, as in the experiment's Catalogue."""
    id: str = "id"
    """The column of unique ids."""


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


def train(arguments: list[str]) -> None:
    """`ssljax train FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(TrainOptions, args=["--help"], default=TrainOptions(Experiment(name="NAME")), prog="ssljax train FILE")
    source, rest = _file_first("train", arguments)
    config, _ = load_experiments(source)
    options = tyro.cli(TrainOptions, args=rest, default=TrainOptions(config), prog=f"ssljax train {source}")
    _join_processes(options.distributed)
    again = shlex.join(["ssljax", "train", *(a for a in arguments if a != "--restart")])
    recorded = {"arguments": [a for a in rest if a != "--restart"], "position": None}
    results = _train(source, options.experiment, recorded, again, options.runs, options.restart)
    if results and is_first_process():
        print_figures(results["table"])
        _say_what_next(Run(options.runs / options.experiment.name))


def sweep(arguments: list[str]) -> None:
    """`ssljax sweep FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(SweepOptions, args=["--help"], prog="ssljax sweep FILE")
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
        for row in ("trained", "teacher"):
            if row in results["table"]:
                name = experiment.name if row == "trained" else f"{experiment.name}, teacher"
                table[name] = results["table"][row]
        baseline = results["table"][BASELINE]
        if is_first_process():
            _write_record(options.results / f"{experiment.name}.json", results)
    if is_first_process():
        _print_runs(table | {BASELINE: baseline})


def views(arguments: list[str]) -> None:
    """`ssljax views FILE [OPTIONS]`."""
    if arguments[:1] in (["--help"], ["-h"]):
        tyro.cli(ViewsOptions, args=["--help"], default=ViewsOptions(Experiment(name="NAME")), prog="ssljax views FILE")
    source, rest = _file_first("views", arguments)
    config, _ = load_experiments(source)
    options = tyro.cli(ViewsOptions, args=rest, default=ViewsOptions(config), prog=f"ssljax views {source}")
    _check_png(options.output)
    sheet = contact_sheet(options.experiment, options.rows)
    _write_png(options.output, lambda file: sheet.save(file, "PNG"))
    print(options.output)


def evaluate(arguments: list[str]) -> None:
    """`ssljax evaluate RUN [DATA]`: evaluates the newest checkpoint, and writes results, index and report anew; on
    another experiment's data only the figures, into a file of their own."""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="ssljax evaluate")
    run = Run(options.run)
    experiment = experiment_of(run)
    if options.data is None:
        print_figures(loop.evaluate_run(loop.Setting.of(experiment), run)["table"])
        return
    other, _ = load_experiments(options.data)
    setting = loop.Setting.of_run(dataclasses.replace(experiment, data=other.data, evaluate=other.evaluate), run)
    table = loop.evaluate_on(setting, run)
    command, path = shlex.join(["ssljax", "evaluate", *arguments]), run.evaluation(other.name)
    write_json(path, {"data": other.name, "command": command, "table": table, "environment": environment()})
    print_figures(table)
    console.print(f"The figures are in {path} too.")


def report(arguments: list[str]) -> None:
    """`ssljax report RUN [OPTIONS]`."""
    options = tyro.cli(ReportOptions, args=arguments, prog="ssljax report")
    _check_most(options.most)
    run = Run(options.run)
    experiment = _complete_experiment_of(run)
    read_json(run.environment, "the same `ssljax train` command writes it anew")
    embed = finish.saved_embeddings(run)
    print(finish.report(run, experiment, experiment.data.load, embed, by=options.by, most=options.most))


def compare(arguments: list[str]) -> None:
    """`ssljax compare RUN_A RUN_B [OPTIONS]`."""
    options = tyro.cli(CompareOptions, args=arguments, prog="ssljax compare")
    _check_most(options.most)
    if options.output.suffix != ".html":
        raise UserError(f"output={options.output} is no name of a page: try compare.html")
    if options.run_a.resolve() == options.run_b.resolve():
        raise UserError(f"{options.run_a} is named twice: name two runs")
    runs = Run(options.run_a), Run(options.run_b)
    experiments = tuple(map(_complete_experiment_of, runs))
    command = shlex.join(["ssljax", "compare", *arguments])
    kept = {"by": options.by, "most": options.most, "path": options.output, "command": command}
    try:
        compared = compare_runs(runs, experiments, experiments[0].data.load, **kept)
    except OSError as error:
        raise UserError(
            f"{options.output} cannot be written ({error.strerror or error}): choose another --output"
        ) from None
    _print_comparison(compared)
    print(options.output)


def robustness(arguments: list[str]) -> None:
    """`ssljax robustness RUN [DATA] [OPTIONS]`."""
    options = tyro.cli(RobustnessOptions, args=arguments, prog="ssljax robustness")
    run, data = Run(options.run), ""
    experiment = experiment_of(run)
    if options.data is not None:
        other, _ = load_experiments(options.data)
        data = other.name
        experiment = dataclasses.replace(experiment, data=other.data, evaluate=other.evaluate)
    setting = loop.Setting.of_run(experiment, run)
    command = shlex.join(["ssljax", "robustness", *arguments])
    results, curves = loop.measure_robustness(setting, run, options.suite, data=data, command=command)
    queries = f"{results['queries']:,} of {results['queries_in_all']:,} queries"
    console.print(f"{queries} in {results['items']:,} photos. The page is {run.robustness(data).with_suffix('.html')}.")
    print(
        "CMC@1: the student's area relative to clean, by what is disturbed; and its value and that of raw pixels at "
        f"strength {options.suite.medium:g} ({options.suite.sides[0]})"
    )
    print_figures(summary(curves, options.suite))


def unmark(arguments: list[str]) -> None:
    """`ssljax unmark FILE -o FOLDER [OPTIONS]`."""
    options = tyro.cli(UnmarkOptions, args=arguments, prog="ssljax unmark")
    images = options.images[0] if len(options.images) == 1 else options.images
    catalogue = Catalogue(str(options.catalogue), images=images, id=options.id, split=None)
    command = shlex.join(["ssljax", "unmark", *arguments])
    summary = unmark_catalogue(catalogue, options.output, by=options.by, leave=options.leave, command=command)
    found = f"{summary.marks:,} of {summary.sellers:,} sellers have a mark"
    few = f" ({summary.few:,} have too few photos to tell)" * bool(summary.few)
    missing = f"; {summary.missing:,} are missing" * bool(summary.missing)
    console.print(f"{found}{few}; {summary.cleaned:,} of {summary.photos:,} photos were cleaned{missing}.")
    print(options.output / PAGE)


def index_advice(arguments: list[str]) -> None:
    """`ssljax index-advice EMBEDDINGS [OPTIONS]`."""
    options = tyro.cli(IndexAdviceOptions, args=arguments, prog="ssljax index-advice")
    _check_png(options.output)
    found = advice.index_advice(
        Embeddings.load(options.embeddings).vectors,
        recall=options.recall,
        updates_per_hour=options.updates_per_hour,
        metric=options.metric,
        progress=lambda kind: console.print(f"{kind} ..."),
    )
    columns = ("recall@10", "queries/s", "p50 ms", "p99 ms", "build s", "MiB", "updates/h")
    printed = Table("", *columns)
    # of each kind the quickest that finds enough, or else the one that finds most
    for kind in dict.fromkeys(row.kind for row in found.rows):
        rows = [row for row in found.rows if row.kind == kind]
        row = max(rows, key=lambda r: (min(r.recall, options.recall), r.qps))
        figures = (row.qps, row.p50_ms, row.p99_ms, row.build_seconds, row.memory_mib, row.updates_per_hour)
        printed.add_row(kind, f"{row.recall:.3f}", *(f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in figures))
    print_table(printed)
    print(f"{found.reason[0].upper()}{found.reason[1:]}.\nTake {found.builder}")
    _write_png(options.output, lambda file: advice.plot(found.rows, file))
    print(options.output)


def _check_png(output: Path) -> None:
    if output.suffix != ".png":
        raise UserError(f"output={output} is no name of a PNG file: try {output.name or 'picture'}.png")


def _write_png(output: Path, write: Callable[[BinaryIO], Any]) -> None:
    try:
        replace_file(output, write)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror or error}): choose another --output") from None


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
        return _results_of(run, "delete it, and the same command writes it anew")
    return loop.train(setting, run, command=again)


def _complete_experiment_of(run: Run) -> Experiment:
    """The experiment of a run folder, which must be of a complete run."""
    experiment = experiment_of(run)
    if not run.results.exists():
        raise UserError(f"{run.path} is not complete: train it to the end first")
    _results_of(run, f"`ssljax evaluate {run.path}` writes it anew")
    return experiment


def _results_of(run: Run, remedy: str) -> dict[str, Any]:
    """The results of a complete run; raises UserError, ending in `remedy`, if the file is damaged."""
    results = read_json(run.results, remedy, "table")
    table = results["table"]
    rows = [table.get(name) for name in ("trained", BASELINE)] if isinstance(table, dict) else [None]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{run.results} is damaged (its table lacks a row): {remedy}")
    return results


def _file_first(command: str, arguments: list[str]) -> tuple[Path, list[str]]:
    if not arguments or arguments[0].startswith("-"):
        raise UserError(f"an experiment file comes first: ssljax {command} experiments/quickstart.py [OPTIONS]")
    return Path(arguments[0]), arguments[1:]


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


def _print_comparison(compared: Compared) -> None:
    """A line a figure, and who finds more."""
    printed = Table("", *map(escape, compared.names), "difference", "95 %", "p")
    for name, found in compared.differences.items():
        means = (f"{means[name]:.3f}" for means in compared.means)
        ends = f"{found.low:+.3f} {found.high:+.3f}"
        printed.add_row(name, *means, f"{found.mean:+.3f}", ends, f"{found.p_value:.3f}")
    print_table(printed)
    for name, count in compared.facts.items():
        if count:
            console.print(f"{name}: {count}", markup=False)
    console.print(compared.statement, markup=False)


def _check_most(most: int) -> None:
    if most < 1:
        raise UserError(f"most={most} is too small: it must be at least 1")


def _write_record(path: Path, results: dict[str, Any]) -> None:
    try:
        write_json(path, results)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another --results") from None


def _say_what_next(run: Run) -> None:
    samples = sorted(run.samples.glob("*.png"))
    photo = samples[0] if samples else "PHOTO"
    console.print(f"The report is {run.report}. Search with\n  ssljax search {run.path} {photo}")
