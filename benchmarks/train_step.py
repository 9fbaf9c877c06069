"""How long a training step takes, beside the same step written plainly in PyTorch: one table, and
results/benchmark_train_step.json.

MoCo v2 (asymmetric, queue 4096) with ResNet-18, CIFAR's stem at 32 px and batch 128, and ImageNet's at 64 px and batch
64; views ready on the device. Each framework has a process of its own; they take turns, and the medians are compared.
On an accelerator the table also has the model FLOP utilisation. PyTorch is measured if it is installed.

    python benchmarks/train_step.py --rounds 3
"""

import contextlib
import dataclasses
import functools
import importlib.util
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

QUEUE, FEATURES, HIDDEN, OUT = 4096, 512, 512, 128
TEMPERATURE, MOMENTUM, LR, DECAY = 0.2, 0.999, 0.03, 1e-4
# Dense bfloat16 FLOP/s, from the makers' data sheets.
PEAK = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12, "NVIDIA A100-SXM4-80GB": 312e12}


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
    """steps a turn, after one that does not count"""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """types of the matrix products"""
    output: Path = Path("results/benchmark_train_step.json")
    """where the figures go"""


def views(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Two random views, f32[B, S, S, 3] each."""
    rng = np.random.default_rng(0)
    shape = (case.batch_size, case.size, case.size, 3)
    return tuple(rng.normal(size=shape).astype(np.float32) for _ in range(2))


Step = tuple[Callable[[], float], Callable[[], float], dict[str, Any]]


def process_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ssljax_step(case: Case) -> Step:
    """A function that takes one step and waits for its loss, one that tells the peak memory, and what else is known."""
    import jax

    from ssljax.methods import MoCo
    from ssljax.models import MLP, ResNet
    from ssljax.optim import SGD
    from ssljax.train import init_state, train_step

    method = MoCo(
        encoder=ResNet(depth=18, stem=case.stem, dtype=case.dtype),
        projector=MLP(hidden=(HIDDEN,), out=OUT, dtype=case.dtype),
        queue_size=QUEUE,
        temperature=TEMPERATURE,
        momentum=MOMENTUM,
    )
    tx = SGD(lr=LR, weight_decay=DECAY, schedule=1.0).build(1)
    parts = {"augment": lambda rng, batch: batch, "method": method, "tx": tx}
    batch = {"views": jax.device_put(views(case))}
    state = jax.jit(functools.partial(init_state, **parts))(jax.random.PRNGKey(0), batch)
    step = jax.jit(functools.partial(train_step, **parts, total_steps=1), donate_argnums=0)
    step = step.lower(state, batch).compile()
    device = jax.devices()[0]
    known = {"flops": (step.cost_analysis() or {}).get("flops"), "peak": PEAK.get(device.device_kind)}

    def run() -> float:
        nonlocal state
        state, metrics = step(state, batch)
        return float(metrics["loss"])

    def peak_mib() -> float:
        figures = device.memory_stats()  # None on a CPU
        return figures["peak_bytes_in_use"] / 2**20 if figures else process_mib()

    return run, peak_mib, known


def torch_step(case: Case) -> Step:
    """The same in PyTorch, channels last."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
            self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if inputs != outputs:
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
            return F.relu(y + self.shortcut(x))

    def network() -> nn.Module:
        small = case.stem == "cifar"
        stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks = [b for i, o, s in widths for b in (Block(i, o, s), Block(o, o, 1))]
        head = [nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT)]
        body = [stem, nn.BatchNorm2d(64), nn.ReLU(), pool, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*body, *head).to(device, memory_format=torch.channels_last)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    student, teacher = network(), network().requires_grad_(False)
    teacher.load_state_dict(student.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), LR, momentum=0.9, weight_decay=DECAY)
    images = [torch.from_numpy(v).to(device).permute(0, 3, 1, 2) for v in views(case)]
    queue, place = F.normalize(torch.randn(QUEUE, OUT, device=device)), 0
    low = case.dtype == "bfloat16"
    precision = functools.partial(torch.autocast, device, torch.bfloat16) if low else contextlib.nullcontext

    def run() -> float:
        nonlocal place
        with torch.no_grad(), precision():
            key = F.normalize(teacher(images[1]).float())
        with precision():
            anchor = student(images[0])
        anchor = F.normalize(anchor.float())
        logits = torch.cat([(anchor * key).sum(1, keepdim=True), anchor @ queue.T], 1) / TEMPERATURE
        loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - MOMENTUM)
            queue[place : place + len(key)] = key
        place = (place + len(key)) % QUEUE
        return loss.item()

    return run, lambda: torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else process_mib(), {}


def serve(make: Callable[[Case], Any], case: Case, pipe: Any) -> None:
    """In a process of its own: takes as many steps as it is asked for, and tells the median seconds and the memory."""
    run, peak_mib, known = make(case)
    for _ in range(2):
        run()
    pipe.send(known)
    while steps := pipe.recv():
        run()  # the first after a wait finds its memory cold
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        pipe.send((statistics.median(seconds), peak_mib()))


def race(case: Case, options: Options) -> dict[str, dict[str, float] | str]:
    """Framework → figures, or why there are none."""
    makers = {"ssljax": ssljax_step} | ({"torch": torch_step} if importlib.util.find_spec("torch") else {})
    context, pipes, known, turns = multiprocessing.get_context("spawn"), {}, {}, {name: [] for name in makers}
    for name, make in makers.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(make, case, theirs), daemon=True).start()
        theirs.close()
        known[name] = pipes[name].recv()
    for _ in range(options.rounds):
        for name, pipe in pipes.items():
            pipe.send(options.steps)
            turns[name].append(pipe.recv())
    figures = {}
    for name, pipe in pipes.items():
        pipe.send(0)
        seconds = statistics.median(s for s, _ in turns[name])
        ratios = [s / t for (s, _), (t, _) in zip(turns[name], turns.get("torch", []), strict=False)]
        flops, peak = known[name].get("flops"), known[name].get("peak")
        figures[name] = {
            "seconds": seconds,
            "images_per_second": case.batch_size / seconds,
            "ratio_to_torch": statistics.median(ratios) if ratios else None,
            "peak_mib": max(m for _, m in turns[name]),
            "flop_utilisation": flops / seconds / peak if flops and peak else None,
        }
    return figures if "torch" in figures else figures | {"torch": "not run (torch not installed)"}


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # for both: see ssljax/allocator.py
    sizes = [("cifar", 32, 128), ("imagenet", 64, 64)]
    cases = [Case(*size, dtype) for size in sizes for dtype in options.dtypes]
    figures = {str(case): race(case, options) for case in cases}
    table = Table("step", "", "seconds", "images/s", "ratio to torch", "peak MiB", "FLOP utilisation")
    for case, rows in figures.items():
        for name, row in rows.items():
            cells = [row] if isinstance(row, str) else ["" if v is None else f"{v:,.4g}" for v in row.values()]
            table.add_row(case, name, *cells)
    Console().print(table)
    from ssljax.files import write_json
    from ssljax.run import environment  # only now: it takes hold of the device

    write_json(options.output, {"environment": environment(), "table": figures})


if __name__ == "__main__":
    main()
