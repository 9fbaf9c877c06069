"""Trains the experiments that begin with ImageNet's EfficientNet-Lite0, and compares their runs.

python results/pretrained.py       hours of two CPU cores; what is complete is kept, so the same command continues

Writes results/fine_tuning_*.json and results/comparisons/*.json, of which `python results/tables.py` makes tables.
"""

from commands import ssljax
from pairs import TUNED_PAIRS, compare

FILES = ("fine_tuning/fashion", "fine_tuning/grocery", "pretrained", "claims/photos", "fine_tuning/fashion_vectors")


def main() -> None:
    """Trains all, and then compares those that are there."""
    for file in FILES:
        ssljax("sweep", f"experiments/{file}.py")
    compare(TUNED_PAIRS)


if __name__ == "__main__":
    main()
