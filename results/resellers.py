"""Trains claims/resellers.py, measures what disturbances cost, and which index suits the catalogue.

python results/resellers.py     an hour or two of two CPU cores; complete runs are kept

Writes the records of the runs, results/robustness/claims_resellers_*.json, and results/benchmark_index_advice.json:
kinds of index, measured on the embeddings of all of Fashion's photos. `python results/tables.py` makes tables of them.
"""

from claims import RESELLER_KINDS, RESELLER_RUNS
from commands import ROOT, ssljax
from robust import measure

from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Embeddings
from ssljax.search import index_advice
from ssljax.training.run_folder import environment

UPDATES_PER_HOUR = 100_000.0
"""28 a second; the service of benchmarks/serve_updates.py takes 47 beside its searches."""
FIGURES = ("recall", "qps", "p50_ms", "p99_ms", "build_seconds", "memory_mib", "updates_per_hour")


def advise(run: str) -> None:
    """Which index suits the embeddings that a run makes of the catalogue."""
    file = ROOT / "runs" / f"{run}_catalogue.npz"
    if not file.exists():
        splits = ("--splits", "train", "val", "test")
        ssljax("embed", f"runs/{run}", "experiments/claims/resellers.py", *splits, "-o", str(file))
    vectors = Embeddings.load(file).vectors
    advice = index_advice(vectors, recall=0.95, updates_per_hour=UPDATES_PER_HOUR)
    rows = {
        row.kind + ", recommended" * (row.builder == advice.builder): {name: getattr(row, name) for name in FIGURES}
        for row in advice.shown
    }
    table = {f"{vectors.shape[0]:,} x {vectors.shape[1]}": rows}
    write_json(ROOT / "results" / "benchmark_index_advice.json", {"environment": environment(), "table": table})


def main() -> None:
    """Trains, measures, and writes the records."""
    ssljax("sweep", "experiments/claims/resellers.py")
    for name in RESELLER_RUNS:
        measure(name, ("query",), kinds=RESELLER_KINDS)
    advise(RESELLER_RUNS[0])


if __name__ == "__main__":
    main()
