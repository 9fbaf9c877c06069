"""`ssljax compare`: asks two runs the same queries, and shows what one finds and the other misses."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from ssljax.cli.shared import Output, TrustCode, check_at_least_one, command_line, complete_experiment_of, writing
from ssljax.config import Experiment
from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Retrieval, compare
from ssljax.evaluation.aligned_runs import Paired
from ssljax.report import Compared, Thumbnails, write_comparison
from ssljax.report.finished_run import Shown, kinds
from ssljax.training.export import saved_embeddings
from ssljax.training.logging import console, print_result, print_table
from ssljax.training.run_folder import Run
from ssljax.types import UserError


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """What two complete runs find, on the queries of their first Retrieval: figures with intervals, and a page of what
    one finds and the other misses. Both must have been trained on the same data; items that only one of them has are
    left out."""

    run_a: tyro.conf.Positional[Path]
    """A run folder."""
    run_b: tyro.conf.Positional[Path]
    """Another one."""
    output: Output = Path("compare.html")
    """The page; the figures are beside it, as .json."""
    by: str | None = None
    """The column that groups cases; by default as in the report."""
    most: int = 20
    """Cases shown of each category, found by A alone and by B alone."""
    trust_code: TrustCode = False


def main(arguments: list[str]) -> None:
    """`ssljax compare RUN_A RUN_B [OPTIONS]`."""
    options = tyro.cli(CompareOptions, args=arguments, prog="ssljax compare")
    check_at_least_one(most=options.most)
    if options.output.suffix != ".html":
        raise UserError(f"output={options.output} must end in .html: try compare.html")
    if Run(options.output.parent).results.is_file():
        raise UserError(f"output={options.output} lies in a run folder, beside files of the run: choose another folder")
    if options.run_a.resolve() == options.run_b.resolve():
        raise UserError(f"{options.run_a} is named twice: name two runs")
    runs = Run(options.run_a), Run(options.run_b)
    experiments = [complete_experiment_of(run, options.trust_code) for run in runs]
    with writing(options.output, "--output"):
        compared = _compare(runs, experiments, options, command_line("compare", arguments))
    _print(compared)
    print_result(options.output)


def _compare(
    runs: tuple[Run, Run], experiments: Sequence[Experiment], options: CompareOptions, command: str
) -> Compared:
    """Compares complete runs by their saved embeddings, and writes the page and its figures; returns what it shows.

    Photos come from the data of the first run. Raises UserError if the runs have another Retrieval or other data, or
    one has no embeddings.
    """
    retrieval = dataclasses.replace(_retrieval(runs, experiments), after=())  # as all that follows, of embeddings alone
    paired = Paired.of(retrieval, saved_embeddings(runs[0]), saved_embeddings(runs[1]))
    a, b = (retrieval.per_query(side.__getitem__) for side in (paired.a, paired.b))
    rankings = paired.rankings()
    finds = rankings[0].first(), rankings[1].first()
    parts = [paired.a[split] for split in dict.fromkeys((retrieval.split, retrieval.searched))]
    items = [experiments[0].data.load(split) for split in paired.a]
    of_items = kinds(experiments[0], items[0], parts[0], options.by)
    alone = [
        f"{count:,} of {name}"
        for counts in paired.left_out.values()
        for name, count in zip(_names(runs), counts, strict=True)
        if count
    ]
    compared = Compared(
        names=_names(runs),
        facts={
            "queries": f"{len(finds[0]):,} in {retrieval.split}",
            "gallery": f"{len(parts[-1]):,} photos, {retrieval.searched}",
            "relevant": retrieval.meaning,
            "left out, as one has them alone": " and ".join(alone),
        },
        rankings=rankings,
        finds=finds,
        means=(a.means(), b.means()),
        differences={name: compare(a, b, name) for name in a.figures},
        kinds=["all" if of_items is None else of_items[row] for row in finds[0].queries],
        relevant=retrieval.meaning,
    )
    shown = Shown(*zip(items, parts, strict=True))
    photos = Thumbnails(shown.photo, shown.captions)
    write_comparison(options.output, compared, photos, command=command, most=options.most)
    write_json(options.output.with_suffix(".json"), _record(compared, command))
    return compared


def _record(compared: Compared, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "runs": compared.names,
        **{name: fact for name, fact in compared.facts.items() if fact},
        "means": compared.means,
        "differences": {name: dataclasses.asdict(found) for name, found in compared.differences.items()},
        "statement": compared.statement,
        "kinds": compared.alone,
    }


def _retrieval(runs: tuple[Run, Run], experiments: Sequence[Experiment]) -> Retrieval:
    """The first Retrieval of both runs, with what CMC@1 needs; raises UserError if they are not asked the same."""
    a, b = (experiment.retrieval for experiment in experiments)
    if a is None or b is None:
        run = runs[0] if a is None else runs[1]
        raise UserError(f"{run.path}: evaluate has no Retrieval, by which runs are compared: add Retrieval()")
    for name in ("columns", "split", "searched"):
        one, other = getattr(a, name), getattr(b, name)
        if one != other:
            field = {"columns": "relevant", "searched": "gallery"}.get(name, name)
            raise UserError(
                f"Retrieval.{field} is {_said(one)} in {runs[0].path} and {_said(other)} in {runs[1].path}: "
                "runs can be compared if their first Retrieval asks the same"
            )
    return dataclasses.replace(a, ks=tuple(sorted({1, *a.ks})))


def _said(value: str | tuple[str, ...]) -> str:
    return repr(value) if isinstance(value, str) else " and ".join(map(repr, value))


def _names(runs: tuple[Run, Run]) -> tuple[str, str]:
    """What the page calls the runs: their folders' names, or else their paths."""
    a, b = (run.path.resolve().name for run in runs)
    return (a, b) if a != b else (str(runs[0].path), str(runs[1].path))


def _print(compared: Compared) -> None:
    """Prints a row for each figure, and who finds more."""
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
