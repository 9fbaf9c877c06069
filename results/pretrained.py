"""Trains the experiments that begin with ImageNet's EfficientNet-Lite0, and compares their runs.

python results/pretrained.py       hours of two CPU cores; what is complete is kept, so the same command continues

Writes results/fine_tuning_*.json and results/comparisons/*.json, of which `python results/tables.py` makes tables.
"""

import subprocess
import sys
from pathlib import Path

from tables import TUNED_PAIRS

ROOT = Path(__file__).resolve().parent.parent
FILES = ("fine_tuning/fashion", "fine_tuning/grocery", "fine_tuning/after_self_supervision", "pretrained")


def ssljax(*arguments: str) -> None:
    """Runs a command of ssljax in the root of the repository; exits if it fails."""
    if subprocess.run([sys.executable, "-m", "ssljax.cli", *arguments], cwd=ROOT).returncode:
        sys.exit(f"ssljax {' '.join(arguments)} failed")


def main() -> None:
    """Trains all, and then compares those that are there."""
    for file in FILES:
        ssljax("sweep", f"experiments/{file}.py")
    for a, b in TUNED_PAIRS:
        page = ROOT / "runs" / "comparisons" / f"{a}-{b}.html"
        record = ROOT / "results" / "comparisons" / f"{a}-{b}.json"
        page.parent.mkdir(parents=True, exist_ok=True)
        ssljax("compare", f"runs/{a}", f"runs/{b}", "-o", str(page.relative_to(ROOT)))
        record.write_bytes(page.with_suffix(".json").read_bytes())


if __name__ == "__main__":
    main()
