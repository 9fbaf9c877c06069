"""How far losses and metrics are from other libraries' own: two tables, and results/benchmark_parity.json and _metrics.

The same random arrays (three draws, float32) go through each loss here and in the peer; the value here times the
convention's factor should be the peer's, and so should every gradient. A difference is over the largest absolute number
of the peer's value or gradient. A peer that cannot be imported says so.
`metric_parity` tells how the metrics are compared.

    pip install -e ".[peers]" && pip install --no-deps solo-learn
    python benchmarks/parity.py
    python benchmarks/parity.py --of metrics
"""

import dataclasses
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import tyro
from loss_parity import compare
from metric_learning_parity import from_pytorch_metric_learning
from metric_parity import PEERS as METRIC_PEERS
from metric_parity import compare_metrics
from rich.console import Console
from rich.table import Table
from self_supervision_parity import from_lightly, from_solo_learn, from_torch

from ssljax.data.atomic_files import write_json
from ssljax.training.run_folder import environment

PEERS = {
    "lightly": from_lightly,
    "pytorch-metric-learning": from_pytorch_metric_learning,
    "solo-learn": from_solo_learn,
    "torch": from_torch,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to compare."""

    of: tuple[Literal["losses", "metrics"], ...] = ("losses", "metrics")
    """what is compared"""
    draws: int = 3
    """random inputs for each loss"""
    searches: int = 200
    """random searches for each metric"""
    output: Path = Path("results/benchmark_parity.json")
    """where the losses' figures go"""
    metrics_output: Path = Path("results/benchmark_metrics.json")
    """where the metrics' figures go"""


def compare_losses(draws: int) -> dict[str, dict[str, Any]]:
    """Peer → loss → row of the table."""
    figures = {}
    for peer, comparisons in PEERS.items():
        try:
            rows = list(comparisons())  # imports the peer
        except (ImportError, RuntimeError) as error:  # RuntimeError: builds of torch and torchvision that do not fit
            figures[peer] = {"": f"not run ({error})"}
        else:
            figures[peer] = {row.loss: compare(row, draws) for row in rows}
    return figures


def main() -> None:
    """Compares, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    if "losses" in options.of:
        show(options.output, compare_losses(options.draws), PEERS)
    if "metrics" in options.of:
        show(options.metrics_output, compare_metrics(options.searches), METRIC_PEERS)


def show(output: Path, figures: dict[str, dict[str, Any]], peers: Iterable[str]) -> None:
    """Prints a table of peer → row → cells and writes it, with the peers' versions."""
    names = next(row for rows in figures.values() for row in [*rows.values(), {}] if isinstance(row, dict))
    table = Table("peer", "", *(name.replace("_", " ") for name in names))
    for peer, rows in figures.items():
        for name, row in rows.items():
            table.add_row(peer, name, *([row] if isinstance(row, str) else map(cell, row.values())))
    Console().print(table)
    versions = {peer: version(peer) for peer in peers}
    write_json(output, {"environment": environment() | {"peers": versions}, "table": figures})


def cell(value: float | str | None) -> str:
    """A cell of the table."""
    return value if isinstance(value, str) else "" if value is None else f"{value:.3g}"


def version(package: str) -> str | None:
    """What is installed of it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
