"""What a plan says of a step beside what the step takes: one table, and results/benchmark_plans.json.

Five experiments, each with the photos that one chip of its machine gets, on one GPU. An experiment for which too little
time is left is not begun. On a GPU this and the steps beside PyTorch's are meant to take less than eight minutes, which
nobody has tried yet:

    timeout 480 sh -c "python benchmarks/train_step.py --dtypes bfloat16 --rounds 2; python benchmarks/plans.py"
"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ssljax.config import Experiment
from ssljax.data.atomic_files import write_json
from ssljax.plan import plan, target
from ssljax.plan.programs import Work
from ssljax.sharding import entering, place_batch
from ssljax.training.experiment_file import load_experiments
from ssljax.training.run_folder import environment

ROOT = Path(__file__).resolve().parent.parent
# File → photos of one chip of the machine that its docstring names.
EXPERIMENTS = {"imagenet/moco_v2": 32, "imagenet/moby": 64, "imagenet/simclr": 128, "cifar10/moco": 512}
EXPERIMENTS |= {"imagenet/dino": 32}
PHOTOS = 50_000  # of an epoch; the step is the same for any number


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to measure."""

    machine: str = "h100:1"
    """what this machine is, as `ssljax plan --on` has it"""
    minutes: float = 4.0
    """after which no experiment is begun, nor one for which less is left than the longest took"""
    turns: int = 5
    steps: int = 10
    """steps of a turn; the median turn counts"""
    output: Path = Path("results/benchmark_plans.json")
    """where the figures go"""


def measured(experiment: Experiment, turns: int, steps: int) -> tuple[float, float | None]:
    """Seconds of a step on the first device here, and the MiB that it needs where the device tells."""
    work = Work.of(experiment, jax.local_devices()[:1], PHOTOS)
    rng, seconds = np.random.default_rng(0), []
    batch = place_batch(work.mesh, {name: _random(rng, x) for name, x in work.spec.batch.items()})
    state: Any = work.spec.initial()
    with entering(work.mesh):
        step = work.spec.step()
        state, metrics = step(state, batch)
        for _ in range(turns):
            jax.block_until_ready(metrics)
            began = time.perf_counter()
            for _ in range(steps):
                state, metrics = step(state, batch)
            jax.block_until_ready((state, metrics))
            seconds.append((time.perf_counter() - began) / steps)
    memory = jax.local_devices()[0].memory_stats() or {}
    peak = memory.get("peak_bytes_in_use")
    return statistics.median(seconds), None if peak is None else peak / 2**20


def _random(rng: np.random.Generator, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    if shape.dtype == np.float32:
        return np.ones(shape.shape, np.float32)
    return rng.integers(0, 256 if shape.dtype == np.uint8 else 2, shape.shape, shape.dtype)


def compared(experiment: Experiment, options: Options) -> dict[str, float | None]:
    """The figures of a plan and of the step that it plans."""
    made = plan(experiment, target(options.machine), PHOTOS, step_only=True)
    seconds, peak = measured(experiment, options.turns, options.steps)
    planned = made.time.step if made.time else None
    return {
        "planned_seconds": planned,
        "seconds": seconds,
        "measured_by_planned": seconds / planned if planned else None,
        "planned_mib": made.needed / 2**20,
        "peak_mib": peak,
        "flop_utilisation": made.time.mfu * made.time.step / seconds if made.time else None,
    }


def main() -> None:
    """Plans, measures, prints and writes, after each experiment what is known."""
    options = tyro.cli(Options, description=__doc__)
    began, longest, figures = time.monotonic(), 0.0, {}
    for name, batch_size in EXPERIMENTS.items():
        here = time.monotonic()
        experiment, _ = load_experiments(ROOT / "experiments" / f"{name}.py")
        experiment = dataclasses.replace(
            experiment, batch_size=batch_size, shards=1, accumulate=1, steps_per_dispatch=1
        )
        if here - began + longest > 60 * options.minutes:
            figures[name] = {experiment.name: "not run (no time left)"}
            continue
        figures[f"{name}, batch {batch_size}"] = {experiment.name: compared(experiment, options)}
        longest = max(longest, time.monotonic() - here)
        write_json(options.output, {"environment": environment(), "table": figures})
    table = Table("experiment", "figure", "")
    for name, rows in figures.items():
        for row in rows.values():
            for figure, value in row.items() if isinstance(row, dict) else [("", row)]:
                table.add_row(
                    name, figure, value if isinstance(value, str) else "" if value is None else f"{value:,.4g}"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
