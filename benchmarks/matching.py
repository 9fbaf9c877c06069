"""Matching of many generated items through ScaNN: time and memory, which should grow with the items and not faster.

One table, and results/benchmark_matching.json. Products have 1 to 8 items, 64 dimensions, and a random direction; an
item is its product's direction plus noise 0.65 times as long. The threshold is the best one for 10,000 other items of
other products. Each number of items is measured in a process of its own: seconds of finding the 49 nearest others of
each item, which up to 20,000 items compares all of them and above builds an index first; of the matches and their
groups; and of one stage of blending. Memory is the peak of the process less what it had when the vectors were there.

    python benchmarks/matching.py --sizes 10000 100000
"""

import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ssljax.data.atomic_files import write_json
from ssljax.evaluation.matching import Candidates, Judged, MatchLists, blended, group, row_f1
from ssljax.evaluation.vectors import normalise
from ssljax.search import build_for_all
from ssljax.training.run_folder import environment

DIM, SIZES, NOISE, CALIBRATION = 64, np.arange(1, 9), 0.65, 10_000


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """numbers of items"""
    blend_up_to: int = 100_000
    """items up to which blending is measured, too"""
    output: Path = Path("results/benchmark_matching.json")
    """where the figures go"""
    note: str = ""
    """what else ran on the machine, for the record"""
    alone: float | None = None
    """measure the one size in this process at this threshold, and print its figures as JSON"""


def generated(items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """f32[items, 64] of unit length, and the product i32[items] of each."""
    rng = np.random.default_rng(seed)
    products = np.repeat(np.arange(items), rng.choice(SIZES, items))[:items].astype(np.int32)
    products = rng.permutation(products)
    centers = normalise(rng.standard_normal((products.max() + 1, DIM), np.float32))
    vectors = rng.standard_normal((items, DIM), np.float32)
    vectors *= NOISE / np.sqrt(np.float32(DIM))
    vectors += centers[products]
    return normalise(vectors), products


def memory() -> tuple[float, float]:
    """What this process has now, and the most it has had, in MiB (on Linux)."""
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return now / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measured(items: int, threshold: float, blend: bool) -> dict[str, float]:
    """The figures of one number of items."""
    vectors, products = generated(items, seed=0)
    (before, _), figures, build = memory(), {"items": items, "threshold": threshold}, build_for_all(items)
    began = time.perf_counter()
    candidates = Candidates.of(vectors, build=build)
    found = time.perf_counter()
    matches = MatchLists.of(candidates, threshold)
    groups = group(matches)
    figures |= {
        "seconds candidates": found - began,
        "seconds matches and groups": time.perf_counter() - found,
        "milliseconds an item": 1000 * (time.perf_counter() - began) / items,
        "MiB of vectors": vectors.nbytes / 2**20,
        "MiB beside them at the peak": memory()[1] - before,
        "groups of several items": int((groups.sizes > 1).sum()),
        "row-f1": float(row_f1(matches.rows, products).mean()),
    }
    if blend:
        began = time.perf_counter()
        blended(vectors, [threshold], build=build)
        figures["seconds a stage of blending"] = time.perf_counter() - began
    return figures


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    if options.alone is not None:
        (items,) = options.sizes
        print(json.dumps(measured(items, options.alone, items <= options.blend_up_to)))
        return
    other, known = generated(CALIBRATION, seed=1)
    threshold, rows = Judged.of(Candidates.of(other), known).best_threshold(), []
    for items in options.sizes:
        command = [sys.executable, __file__, "--alone", str(threshold), "--sizes", str(items)]
        command += ["--blend-up-to", str(options.blend_up_to)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        Console().print(rows[-1])
        write_json(options.output, {"environment": environment(), "note": options.note, "table": rows})
    shown = Table("", *(f"{items:,} items" for items in options.sizes))
    for name in dict.fromkeys(name for row in rows for name in row):
        shown.add_row(name, *(f"{row[name]:,.4g}" if name in row else "" for row in rows))
    Console().print(shown)


if __name__ == "__main__":
    main()
