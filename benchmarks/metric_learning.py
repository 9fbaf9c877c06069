"""How long metric-learning losses take at an encoder's output, forward and backward, beside pytorch-metric-learning.

Batch-hard triplets, multi-similarity, and ArcFace over the 11,014 classes of Shopee, on embeddings of 128 numbers.
Measured as `benchmarks/losses.py` measures: each implementation has a process of its own, those of one case take turns,
and the medians are compared. "blockwise" is `ssljax.losses`, "dense" the same formula written plainly in JAX.

    python benchmarks/metric_learning.py --sizes 512
"""

import dataclasses
from pathlib import Path

import tyro
from losses import Case, Options, measure


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What to measure."""

    sizes: tuple[int, ...] = (512, 1024)
    """batch sizes"""
    classes: int = 11014
    """of ArcFace"""
    rounds: int = 9
    """turns of each process"""
    output: Path = Path("results/benchmark_metric_learning.json")
    """where the figures go; those that are there of other cases stay"""


def main() -> None:
    """Measures, prints and writes."""
    sizes = tyro.cli(Sizes, description=__doc__)
    losses = {"triplet": 0, "multi_similarity": 0, "arcface": sizes.classes}
    cases = [Case(loss, batch, classes) for loss, classes in losses.items() for batch in sizes.sizes]
    measure(cases, Options(rounds=sizes.rounds, output=sizes.output))


if __name__ == "__main__":
    main()
