"""How long a training step takes, beside the same step written plainly in PyTorch: one table, and
results/benchmark_train_step.json.

MoCo v2 (asymmetric, queue 4096) with ResNet-18, CIFAR's stem at 32 px and batch 128, and ImageNet's at 64 px and batch
64; views ready on the device. PyTorch, if it is installed, has channels last, plainly and by torch.compile. Each has a
process of its own; they take turns, and the median turns are compared. On an accelerator the table also has the model
FLOP utilisation.

    python benchmarks/train_step.py --rounds 3
"""

import contextlib
import dataclasses
import functools
import importlib.util
import os
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table
from steps import Contestant, Step, random_views, ssljax_step, take_turns

QUEUE, HIDDEN, OUT = 4096, 512, 128
TEMPERATURE, MOMENTUM = 0.2, 0.999


@dataclasses.dataclass(frozen=True)
class Case:
    """One step to measure."""

    stem: Literal["cifar", "imagenet"]
    size: int
    batch_size: int
    dtype: Literal["float32", "bfloat16"]

    def __str__(self) -> str:
        return f"ResNet-18, {self.stem} stem, {self.size} px, batch {self.batch_size}, {self.dtype}"


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to measure."""

    rounds: int = 3
    """turns of each framework"""
    steps: int = 3
    """steps a turn, after one that does not count; the fastest counts"""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """types of the matrix products"""
    output: Path = Path("results/benchmark_train_step.json")
    """where the figures go"""


def in_ssljax(case: Case) -> Step:
    """MoCo's step."""
    from ssljax.methods import EMA, MoCo
    from ssljax.models import MLP, ResNet

    method = MoCo(
        encoder=ResNet(depth=18, stem=case.stem, dtype=case.dtype),
        projector=MLP(hidden=(HIDDEN,), out=OUT, dtype=case.dtype),
        queue_size=QUEUE,
        temperature=TEMPERATURE,
        teacher=EMA(momentum=MOMENTUM),
    )
    return ssljax_step(method, {"views": random_views(case.batch_size, case.size)})


def in_torch(case: Case, compiled: bool = False) -> Step:
    """The same in PyTorch, channels last; `compiled` by torch.compile."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch_steps import DEVICE, FEATURES, images, on_device, peak_mib, resnet18, sgd

    def network() -> nn.Module:
        head = [nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT)]
        return on_device(nn.Sequential(resnet18(case.stem), *head))

    student, teacher = network(), network().requires_grad_(False)
    teacher.load_state_dict(student.state_dict())
    optimizer = sgd(student)
    student_network, teacher_network = (torch.compile(n) if compiled else n for n in (student, teacher))
    anchor_view, key_view = images(random_views(case.batch_size, case.size))
    queue, place = F.normalize(torch.randn(QUEUE, OUT, device=DEVICE)), 0
    low = case.dtype == "bfloat16"
    precision = functools.partial(torch.autocast, DEVICE, torch.bfloat16) if low else contextlib.nullcontext

    def run() -> float:
        nonlocal place
        with torch.no_grad(), precision():
            key = F.normalize(teacher_network(key_view).float())
        with precision():
            anchor = student_network(anchor_view)
        anchor = F.normalize(anchor.float())
        logits = torch.cat([(anchor * key).sum(1, keepdim=True), anchor @ queue.T], 1) / TEMPERATURE
        loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - MOMENTUM)
            queue[place : place + len(key)] = key
        place = (place + len(key)) % QUEUE
        return loss.item()

    return run, peak_mib, {}


def race(case: Case, options: Options) -> dict[str, dict[str, float] | str]:
    """Framework → figures, or why there are none."""
    makers = {"ssljax": in_ssljax}
    if importlib.util.find_spec("torch"):
        makers |= {"torch": in_torch, "torch.compile": functools.partial(in_torch, compiled=True)}
    contestants = {name: Contestant(make, case) for name, make in makers.items()}
    turns = take_turns(contestants.values(), options.rounds, options.steps)
    figures = {}
    for name, contestant in contestants.items():
        contestant.close()
        its, flops, peak = turns[contestant], contestant.known.get("flops"), contestant.known.get("peak")
        figures[name] = {
            "seconds": its.seconds,
            "images_per_second": case.batch_size / its.seconds,
            "ratio_to_torch": its.ratio(turns[contestants["torch"]]) if "torch" in contestants else None,
            "peak_mib": its.peak_mib,
            "flop_utilisation": flops / its.seconds / peak if flops and peak else None,
        }
    return figures if "torch" in figures else figures | {"torch": "not run (torch not installed)"}


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # cheaper pages, for both
    sizes = [("cifar", 32, 128), ("imagenet", 64, 64)]
    cases = [Case(*size, dtype) for size in sizes for dtype in options.dtypes]
    figures = {str(case): race(case, options) for case in cases}
    table = Table("step", "", "seconds", "images/s", "ratio to torch", "peak MiB", "FLOP utilisation")
    for case, rows in figures.items():
        for name, row in rows.items():
            cells = [row] if isinstance(row, str) else ["" if v is None else f"{v:,.4g}" for v in row.values()]
            table.add_row(case, name, *cells)
    Console().print(table)
    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment  # only now: it takes hold of the device

    write_json(options.output, {"environment": environment(), "table": figures})


if __name__ == "__main__":
    main()
