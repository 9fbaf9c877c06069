"""What `ssljax compare` does: asks two runs the same, and writes what differs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Retrieval, compare
from ssljax.evaluation.aligned_runs import Paired
from ssljax.report import Compared, Thumbnails, write_comparison
from ssljax.report.finished_run import Shown, kinds
from ssljax.training.export import saved_embeddings
from ssljax.training.run_folder import Run
from ssljax.types import UserError


def compare_runs(
    runs: tuple[Run, Run],
    experiments: tuple[Experiment, Experiment],
    load: Callable[[str], Items],
    *,
    by: str | None,
    most: int,
    path: Path,
    command: str,
) -> Compared:
    """Compares complete runs by their saved embeddings, and writes the page, and beside it its figures as JSON; gives
    what it shows.

    Args:
        runs: A and B.
        experiments: theirs.
        load: a split of the data of A, for photos.
        by: the column that groups cases; None for that of the report.
        most: cases of each category.
        path: the page.
        command: what writes it again.

    Raises:
        UserError: the runs have another Retrieval or other data, or one has no embeddings.
    """
    retrieval = _retrieval(runs, experiments)
    paired = Paired.of(retrieval, *(saved_embeddings(run) for run in runs))
    found = [retrieval.per_query(side.__getitem__) for side in (paired.a, paired.b)]
    rankings = paired.rankings()
    finds = tuple(ranking.first() for ranking in rankings)
    parts = [paired.a[split] for split in dict.fromkeys((retrieval.split, retrieval.searched))]
    items = [load(split) for split in paired.a]
    of_items = kinds(experiments[0], items[0], parts[0], by)
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
        means=tuple(one.means() for one in found),
        differences={name: compare(*found, name) for name in found[0].figures},
        kinds=["all" if of_items is None else of_items[row] for row in finds[0].queries],
        relevant=retrieval.meaning,
    )
    shown = Shown(*zip(items, parts, strict=True))
    write_comparison(path, compared, Thumbnails(shown.photo, shown.captions), command=command, most=most)
    write_json(path.with_suffix(".json"), _record(compared, command))
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


def _retrieval(runs: tuple[Run, Run], experiments: tuple[Experiment, Experiment]) -> Retrieval:
    """The first Retrieval of both runs, with what CMC@1 needs; raises UserError if they are not asked the same."""
    for run, experiment in zip(runs, experiments, strict=True):
        if experiment.retrieval is None:
            raise UserError(f"{run.path}: evaluate has no Retrieval, by which runs are compared: add Retrieval()")
    a, b = (experiment.retrieval for experiment in experiments)
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
    return (a, b) if a != b else tuple(str(run.path) for run in runs)
