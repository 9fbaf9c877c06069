"""What a training step of each method costs: time and peak memory, beside lightly's where it has the method.

One table, and results/benchmark_methods.json. Two views of 32 px, ready on the device, float32, ResNet-18 with CIFAR's
stem, the heads and queues of experiments/cifar10 and SGD throughout; MoCo in one direction, as in lightly's examples.
iBOT, which needs a vision transformer, has one, so that its cost is not compared. A method and lightly's form of it
have a process each and take turns with SimSiam's two, which stay; the median turns are compared.

    python benchmarks/methods.py --methods SimSiam BYOL --batch-size 64
"""

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from steps import Contestant, Step, random_views, ssljax_step, take_turns

SIZE = 32  # px
RECIPES = Path(__file__).resolve().parent.parent / "experiments" / "cifar10"


def encoder() -> Any:
    """The same for all but iBOT."""
    from ssljax.models import ResNet

    return ResNet(depth=18, stem="cifar")


def recipe(file: str, **changes: Any) -> Any:
    """The method of experiments/cifar10/<file>.py with that encoder."""
    from ssljax.training.experiment_file import load_experiments

    config, _ = load_experiments(RECIPES / f"{file}.py")
    return dataclasses.replace(config.method, encoder=encoder(), **changes)


def dcl() -> Any:
    """With SimCLR's projector."""
    from ssljax.methods import DCL

    return DCL(encoder=encoder(), projector=recipe("simclr").projector)


def moby() -> Any:
    """With its paper's heads and queue."""
    from ssljax.methods import MoBY

    return MoBY(encoder=encoder())


def ibot() -> Any:
    """With DINO's projector, on ViT-Ti with patches of 4 px."""
    from ssljax.methods import IBOT
    from ssljax.models import ViT

    return IBOT(encoder=ViT(variant="Ti", patch=4, mask_token=True), projector=recipe("dino").projector)


METHODS: dict[str, Callable[[], Any]] = {
    "SimSiam": lambda: recipe("sim_siam"),  # first: the others are compared with it
    "SimCLR": lambda: recipe("simclr"),
    "DCL": dcl,
    "SupCon": lambda: recipe("sup_con"),
    "BarlowTwins": lambda: recipe("barlow_twins"),
    "VICReg": lambda: recipe("vicreg"),
    "NNCLR": lambda: recipe("nnclr"),
    "SwAV": lambda: recipe("swav"),
    "MoCo": lambda: recipe("moco", symmetric=False, shuffle=False),
    "MoBY": moby,
    "MoCoV3": lambda: recipe("moco_v3"),
    "ReSSL": lambda: recipe("re_ssl"),
    "BYOL": lambda: recipe("byol"),
    "DINO": lambda: recipe("dino"),
    "IBOT": ibot,
}
REFERENCE = "SimSiam"
OTHER_ENCODERS = {"IBOT": "ViT-Ti/4"}
IN_LIGHTLY = ("SimSiam", "SimCLR", "DCL", "BarlowTwins", "VICReg", "NNCLR", "SwAV", "MoCo", "BYOL", "DINO")


@dataclasses.dataclass(frozen=True)
class Case:
    """One method to measure."""

    method: str
    batch_size: int

    def __str__(self) -> str:
        encoder = OTHER_ENCODERS.get(self.method)
        return f"{self.method}{f', {encoder}' if encoder else ''}, batch {self.batch_size}"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    methods: tuple[str, ...] = tuple(METHODS)
    """which methods"""
    batch_size: int = 64
    """photos a step, of two views each; must divide the queues"""
    rounds: int = 3
    """turns of each process"""
    steps: int = 3
    """steps a turn, after one that does not count; the fastest counts"""
    output: Path = Path("results/benchmark_methods.json")
    """where the figures go; those that are there of other cases stay"""


def in_ssljax(case: Case) -> Step:
    """The method's step."""
    rng = np.random.default_rng(0)
    patches = (SIZE // 4) ** 2
    batch = {
        "views": random_views(case.batch_size, SIZE),
        "label": rng.integers(0, 10, case.batch_size).astype(np.int32),
        "masks": tuple(rng.random((case.batch_size, patches)) < 0.3 for _ in range(2)),
    }
    return ssljax_step(METHODS[case.method](), batch)


def in_lightly(case: Case) -> Step:
    """lightly's."""
    from peers import import_torchvision

    import_torchvision()
    import lightly_methods
    from torch_steps import images, on_device, peak_mib, sgd

    network = on_device(getattr(lightly_methods, case.method)())
    optimizer = sgd(network)
    views = images(random_views(case.batch_size, SIZE))

    def run() -> float:
        loss = network(*views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, peak_mib, {}


def start(case: Case) -> dict[str, Contestant]:
    """Framework → process."""
    makers = {"ssljax": in_ssljax}
    if case.method in IN_LIGHTLY and importlib.util.find_spec("lightly"):
        makers["lightly"] = in_lightly
    return {name: Contestant(make, case) for name, make in makers.items()}


def race(case: Case, references: dict[str, Contestant], options: Options) -> dict[str, dict[str, float | str] | str]:
    """Framework → figures, or why there are none."""
    own = references if case.method == REFERENCE else start(case)
    turns = take_turns([*(references[name] for name in own), *own.values()], options.rounds, options.steps)
    figures: dict[str, Any] = {}
    for name, contestant in own.items():
        its, compared = turns[contestant], case.method not in OTHER_ENCODERS
        figures[name] = {
            "seconds": its.seconds,
            "images_per_second": case.batch_size / its.seconds,
            "ratio_to_sim_siam": its.ratio(turns[references[name]]) if compared else "not run",
            "ratio_to_lightly": its.ratio(turns[own["lightly"]]) if "lightly" in own else "not run",
            "peak_mib": its.peak_mib,
        }
    if case.method != REFERENCE:
        for contestant in own.values():
            contestant.close()
    if "lightly" in own:
        return figures
    why = "lightly not installed" if case.method in IN_LIGHTLY else "lightly does not have it"
    return figures | {"lightly": f"not run ({why})"}


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # cheaper pages, for all
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share an accelerator
    references = start(Case(REFERENCE, options.batch_size))
    cases = [Case(method, options.batch_size) for method in options.methods]
    figures = {str(case): race(case, references, options) for case in cases}
    for contestant in references.values():
        contestant.close()
    table = Table("method", "", "seconds", "images/s", "ratio to SimSiam", "ratio to lightly", "peak MiB")
    for case, rows in figures.items():
        for name, row in rows.items():
            values = [row] if isinstance(row, str) else row.values()
            table.add_row(case, name, *(v if isinstance(v, str) else f"{v:,.4g}" for v in values))
    Console().print(table)
    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment  # only now: it takes hold of the device

    before = json.loads(options.output.read_text())["table"] if options.output.exists() else {}
    write_json(options.output, {"environment": environment(), "table": before | figures})


if __name__ == "__main__":
    main()
