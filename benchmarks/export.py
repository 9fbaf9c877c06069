"""What smaller exports to ONNX cost: neighbours that they no longer find among the photos of complete runs.

One table, and results/benchmark_export.json. Needs the extra `export`, and the runs.

    python benchmarks/export.py runs/claims_in_sequence_labels_100_0
"""

import dataclasses
import tempfile
from pathlib import Path

import tyro

from ssljax.data.atomic_files import write_json
from ssljax.evaluation.restore import Restored
from ssljax.export.network import Network
from ssljax.export.onnx import FILE, SMALLER, session, write_onnx
from ssljax.export.recall import recall_of
from ssljax.training.run_folder import Run, environment


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """complete run folders"""
    output: Path = Path("results/benchmark_export.json")
    """where the figures go"""


def costs(run: Path) -> dict[str, dict[str, float]]:
    """File of an export → its size in MB, and what it finds."""
    restored = Restored.of(Run(run))
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Network.of(restored, "student"), Path(folder), tuple(SMALLER))
        files = {file: Path(folder, file) for file in (FILE, *SMALLER.values())}
        found = recall_of(restored, {file: session(path) for file, path in files.items()})
        return {file: {"MB": path.stat().st_size / 1e6, **found[file]} for file, path in files.items()}


def main() -> None:
    """Exports and measures each run."""
    options = tyro.cli(Options)
    table = {run.name: costs(run) for run in options.runs}
    for name, files in table.items():
        for file, figures in files.items():
            print(name, file, figures)
    write_json(options.output, {"environment": environment(), "table": table})


if __name__ == "__main__":
    main()
