"""How well neighbours predict the columns of Fashion from the embeddings of a finished run, beside a linear classifier.

Two tables, results/benchmark_attributes.json and results/benchmark_words.json. `Attributes` and `TitleWords` explain
the figures; their settings are the defaults. The run must have saved the embeddings of all splits:

    ssljax train experiments/moco_fashion.py --gallery train val test
    python benchmarks/attributes.py runs/moco_fashion
"""

import dataclasses
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Attributes, Embeddings, TitleWords
from ssljax.training.run_folder import Run, environment

ANSWERS = ("values", "majority", "accuracy", "coverage@accuracy=0.9", "area", "ece_uncalibrated", "ece")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    columns: tuple[str, ...] = ("articleType", "baseColour", "gender", "season", "usage")
    """Of the catalogue, told as a whole."""
    texts: tuple[str, ...] = ("productDisplayName",)
    """Of the catalogue, told word by word."""
    output: Path = Path("results")
    """Where the records go."""


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    parts = {split: Embeddings.load(Run(options.run).embeddings(split)) for split in ("train", "val", "test")}
    evaluator = Attributes(columns=options.columns)
    figures = evaluator(parts.__getitem__)
    table: dict[str, dict[str, dict[str, Any]]] = {}
    words: dict[str, dict[str, dict[str, Any]]] = {}
    shown = Table("column", "", "figures")
    for column in options.columns:
        own = {name: figures[f"test/attributes/{column}/{name}"] for name in ANSWERS}
        few = {
            row: {f"{100 * s:g}%": figures[f"test/attributes/{column}/{method}@{100 * s:g}%"] for s in evaluator.shares}
            for row, method in (("neighbours", "accuracy"), ("linear classifier", "linear"))
        }
        few["neighbours"] |= own
        table[column] = few
    for column in options.texts:
        own = TitleWords(column=column)(parts.__getitem__)
        own = {name: own[f"test/words/{column}/{name}"] for name in ("precision", "recall", "f1", "frequent_f1")}
        words[column] = {"neighbours": own}
    for column, rows in (table | words).items():
        for row, values in rows.items():
            shown.add_row(column, row, "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    Console().print(shown)
    for name, content in (("attributes", table), ("words", words)):
        write_json(options.output / f"benchmark_{name}.json", {"environment": environment(), "table": content})


if __name__ == "__main__":
    main()
