"""How long the mining of attribute triplets takes, from ten thousand photos on: one table, and
results/benchmark_triplets.json.

    python benchmarks/triplets.py --sizes 10000 100000

The tables of attributes are drawn: five attributes with as many values as those of a fashion shop, the common ones as
much more common (Zipf), which values are common depends on the kind of the item, and some are missing. Memory is what
the process peaks at above what it had before. CPU seconds are the process's own, in one thread.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from memory import forget_peak, give_back_freed, memory_mib
from rich.console import Console
from rich.table import Table

from ssljax.data import AttributeTriplets, Items
from ssljax.data.atomic_files import write_json
from ssljax.training.run_folder import environment

VALUES = {"kind": 140, "gender": 5, "colour": 46, "season": 4, "usage": 8}
MISSING = {"kind": 0.0, "gender": 0.0, "colour": 0.02, "season": 0.05, "usage": 0.1}
SKEW = {"kind": 1.2, "gender": 3.0, "colour": 1.5, "season": 1.5, "usage": 3.0}  # p of the k-th is 1 / k ** skew
DIM = 128
MOST_EMBEDDED = 100_000
MININGS = {
    "six triplets, levels of five attributes": AttributeTriplets(),
    "six triplets, of one attribute": AttributeTriplets(("kind",), cuts=(1.0, 0.0), draws=(6,)),
    "six triplets, thresholds on the IoU of tags": AttributeTriplets(
        likeness="iou", cuts=(0.6, 0.3, 0.0), draws=(0, 6, 0)
    ),
}
PLAIN = next(iter(MININGS))


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...] = (10_000, 40_000, 100_000, 400_000, 1_000_000)
    """photos"""
    rounds: int = 2
    """the fastest counts"""
    output: Path = Path("results/benchmark_triplets.json")
    """where the figures go"""


def catalogue(photos: int) -> Items:
    """Photos with attributes, and no pixels."""
    rng = np.random.default_rng(0)
    columns = []
    for name, values in VALUES.items():
        p = 1 / np.arange(1, values + 1) ** SKEW[name]
        column = rng.choice(values, photos, p=p / p.sum())
        if columns:  # which values are common depends on the kind
            orders = np.stack([rng.permutation(values) for _ in range(VALUES["kind"])])
            column = orders[columns[0], column]
        columns.append(column)
    table = np.stack(columns, axis=1).astype(np.int32)
    table[rng.random(table.shape) < np.array(list(MISSING.values()))] = -1
    names = tuple(tuple(map(str, range(values))) for values in VALUES.values())
    return Items(
        np.arange(photos), range(photos), attributes=table, attribute_names=tuple(VALUES), attribute_values=names
    )


def measure(items: Items, mining: AttributeTriplets, rounds: int, **options: object) -> dict[str, float | int]:
    """Seconds, and what they are for."""
    seconds, cpu_seconds = [], []
    for _ in range(rounds):
        give_back_freed()
        before = memory_mib("VmRSS")
        forget_peak()
        start, cpu_start = time.perf_counter(), time.process_time()
        mined = mining.mine(items, **options)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        peak = memory_mib("VmHWM") - before
    found = int((mined[..., 0] >= 0).sum())
    cpu = min(cpu_seconds)
    return {
        "seconds": min(seconds),
        "cpu_seconds": cpu,
        "cpu_us_a_photo": cpu / len(items) * 1e6,
        "triplets": f"{found:,}",
        "peak_mib": peak,
    }


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    table = {}
    for size in options.sizes:
        items = catalogue(size)
        tuples = len(np.unique(items.attributes, axis=0))
        group = table[f"{size:,} photos, {tuples:,} distinct tuples"] = {}
        for name, mining in MININGS.items():
            group[name] = measure(items, mining, options.rounds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mined.npy"
            group[f"{PLAIN}, to disk"] = measure(items, MININGS[PLAIN], options.rounds, path=path)
        if size <= MOST_EMBEDDED:
            embeddings = np.random.default_rng(1).standard_normal((size, DIM), np.float32)
            group[f"{PLAIN}, nearest of 8"] = measure(items, MININGS[PLAIN], options.rounds, embeddings=embeddings)
    write_json(options.output, {"environment": environment(), "table": table})
    shown = Table("", "", "seconds", "CPU seconds", "CPU us a photo", "triplets", "peak MiB")
    for group, rows in table.items():
        for row, figures in rows.items():
            shown.add_row(group, row, *(v if isinstance(v, str) else f"{v:,.3g}" for v in figures.values()))
    Console().print(shown)


if __name__ == "__main__":
    main()
