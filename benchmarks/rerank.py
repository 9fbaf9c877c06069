"""What post-processing adds to the retrieval figures of a finished run on Fashion.

One table, and results/benchmark_rerank.json. Every method's setting is chosen on `val`, of a few, by MAP@R (min2's
thresholds by F1), and then measured on `test`; first on the embeddings as they are, then after whitening. The run must
have saved the embeddings of all splits:

    ssljax train experiments/moco_fashion.py --gallery train val test
    python benchmarks/rerank.py runs/moco_fashion
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ssljax.data.atomic_files import write_json
from ssljax.evaluation import (
    DatabaseAugmentation,
    Embeddings,
    NeighbourhoodBlending,
    QueryExpansion,
    Retrieval,
    Whitening,
)
from ssljax.evaluation.matching import Candidates, Judged
from ssljax.evaluation.metrics import is_relevant, per_query, relevant_items
from ssljax.evaluation.rerank import k_reciprocal
from ssljax.evaluation.vectors import normalise
from ssljax.training.run_folder import Run, environment

Splits = dict[str, Embeddings]
Figures = dict[str, Any]
RELEVANT = {"style": "productDisplayName", "attribute": ("gender", "articleType", "baseColour")}
WHITENINGS = [(Whitening(dim=d, shrinkage=s),) for d, s in itertools.product((128, 256, 512), (0.0, 0.03))]
STEPS = {
    "average query expansion": [(QueryExpansion(k=k),) for k in (1, 2, 5)],
    "alpha query expansion": [(QueryExpansion(k=k, alpha=a),) for k in (2, 5, 10) for a in (3.0, 10.0)],
    "database augmentation": [(DatabaseAugmentation(k=k, alpha=a),) for k in (1, 2, 5) for a in (3.0, 10.0)],
    "both": [(DatabaseAugmentation(k=k, alpha=3.0), QueryExpansion(k=k, alpha=3.0)) for k in (1, 2, 5)],
    "blending": [
        (NeighbourhoodBlending(thresholds=(t,) * stages),) for t in (0.5, 0.7, 0.98, 0.99) for stages in (1, 3)
    ],
}
RECIPROCAL = [{"k1": k1, "k2": k2, "weight": w} for k1, k2 in ((4, 2), (10, 3), (20, 6)) for w in (0.3, 0.8)]
DEPTH = 50  # of the rankings that F1 is measured on


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    output: Path = Path("results/benchmark_rerank.json")
    """Where the record goes."""


def by_steps(relevant: str | tuple[str, ...], after: tuple[Any, ...], parts: Splits, split: str) -> Figures:
    """CMC@1 and MAP@R of what the steps make."""
    figures = Retrieval(relevant, split=split, after=after)(parts.__getitem__)
    return {name: figures[f"{split}/{name}"] for name in ("cmc@1", "map@r")}


def by_k_reciprocal(relevant: str | tuple[str, ...], setting: dict[str, Any], parts: Splits, split: str) -> Figures:
    """The same of its rankings."""
    groups, x = Retrieval(relevant).groups(parts[split]), normalise(parts[split].vectors)
    positives = relevant_items(groups, groups, np.arange(len(x)))
    asked = np.flatnonzero(positives)
    rows, _ = k_reciprocal(x[asked], x, int(positives.max()), own=asked, **setting)
    figures = per_query(is_relevant(groups[asked], groups, rows), positives[asked], ks=(1,))
    return {name: float(figures[name].mean()) for name in ("cmc@1", "map@r")}


def chosen(
    measure: Callable[[Any, str], Figures], settings: list[Any], by: str, tell: Callable[[Any], str]
) -> tuple[Any, Figures]:
    """The setting that is best on `val`, and its figures on `test`."""
    best = max(settings, key=lambda setting: measure(setting, "val")[by])
    return best, measure(best, "test") | {"setting": tell(best)}


def told(setting: Any) -> str:
    """A setting in short: "k=2 alpha=3.0", of the first step, whose fields those of a second one repeat."""
    if isinstance(setting, tuple):
        step = setting[0]
        setting = {
            f.name: getattr(step, f.name) for f in dataclasses.fields(step) if getattr(step, f.name) != f.default
        }
    return " ".join(f"{name}={value}" for name, value in setting.items())


def rows(name: str, parts: Splits) -> Iterator[tuple[str, Figures]]:
    """Method → figures on one kind of relevance, before and after whitening."""
    relevant = RELEVANT[name]

    def stepwise(after: tuple[Any, ...], split: str) -> Figures:
        return by_steps(relevant, after, parts, split)

    yield "as they are", chosen(stepwise, [()], "map@r", lambda _: "")[1]
    whitening, figures = chosen(stepwise, WHITENINGS, "map@r", told)
    yield "whitening", figures
    white = {}
    for split in ("val", "test"):
        x = normalise(parts[split].vectors)
        x, _ = whitening[0](x, x, None, parts.__getitem__)
        white[split] = dataclasses.replace(parts[split], vectors=x)
    for prefix, given in (("", parts), ("whitening, ", white)):

        def measure(after: tuple[Any, ...], split: str, given: Splits = given) -> Figures:
            return by_steps(relevant, after, given, split)

        def reciprocal(setting: dict[str, Any], split: str, given: Splits = given) -> Figures:
            return by_k_reciprocal(relevant, setting, given, split)

        for method, settings in STEPS.items():
            yield prefix + method, chosen(measure, settings, "map@r", told)[1]
        yield prefix + "k-reciprocal", chosen(reciprocal, RECIPROCAL, "map@r", told)[1]
    if name == "style":
        for prefix, given in (("", parts), ("whitening, ", white)):
            yield from answers(prefix, {split: matches(given[split]) for split in ("val", "test")})


def matches(embeddings: Embeddings) -> Judged:
    """The nearest others of each item, and which are of its style."""
    groups = Retrieval(RELEVANT["style"]).groups(embeddings)
    return Judged.of(Candidates.of(normalise(embeddings.vectors), DEPTH), groups)


def answers(prefix: str, found: dict[str, Judged]) -> Iterator[tuple[str, Figures]]:
    """Shopee's row-wise F1 of the items from a threshold on, and by min2."""

    def measure(thresholds: tuple[float, float], split: str) -> Figures:
        return {"f1": float(found[split].f1(*thresholds).mean())}

    # as many candidates for the threshold as the nearest others' cosines have steps of 2 %
    grid = np.quantile(found["val"].scores[:, 0], np.linspace(0, 1, 51)).round(4).tolist()
    two = [pair for pair in itertools.product(grid, grid) if pair[1] <= pair[0]]
    for method, pairs in (("threshold", [(t, t) for t in grid]), ("min2", two)):
        yield prefix + method, chosen(measure, pairs, "f1", lambda pair: " ".join(map(str, dict.fromkeys(pair))))[1]


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    parts = {split: Embeddings.load(Run(options.run).embeddings(split)) for split in ("train", "val", "test")}
    console, table = Console(), {}
    shown = Table("", "method", "CMC@1", "MAP@R", "F1", "setting")
    for name in RELEVANT:
        for method, figures in rows(name, parts):
            table.setdefault(name, {})[method] = figures
            cells = [figures.get(column) for column in ("cmc@1", "map@r", "f1")]
            console.print(name, method, figures)
            shown.add_row(name, method, *("" if c is None else f"{c:.3f}" for c in cells), figures["setting"])
    console.print(shown)
    write_json(options.output, {"environment": environment(), "table": table})


if __name__ == "__main__":
    main()
