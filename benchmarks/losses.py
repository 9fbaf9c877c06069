"""How long a loss takes, forward and backward, and how much memory: in blocks, in dense form, and in PyTorch.

One table, and results/benchmark_losses.json. "blockwise" is `ssljax.losses`; "dense" the same formula written plainly
in JAX, with all B x B or B x K products at once; "lightly" and "pml" (pytorch-metric-learning) are measured if they are
installed. Each has a process of its own; those of one case take turns, and the medians are compared. Memory is what the
process peaks at above what it had before, compilation and inputs not counted. A process above the limit is stopped and
reported as out of memory.

    python benchmarks/losses.py --losses nt_xent sup_con --sizes 256 1024
"""

import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from memory import forget_peak, memory_mib
from peers import import_torchvision
from rich.console import Console
from rich.table import Table

D, T = 128, 0.2  # features, temperature
SCALE, MARGIN = 64.0, 0.5  # ArcFace's
ALPHA, BETA, BASE = 2.0, 50.0, 0.5  # multi-similarity's
LOSSES = ("nt_xent", "info_nce", "sup_con", "triplet", "arcface")
PEERS = {"nt_xent": "lightly", "info_nce": "lightly"}  # the others': pml
PACKAGES = {"lightly": "lightly", "pml": "pytorch_metric_learning"}
HALF = ("nt_xent", "info_nce")  # those with matrix products in bfloat16


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss to measure."""

    loss: str
    batch: int
    keys: int = 0
    """of the queue, or classes"""

    def __str__(self) -> str:
        keys = f", {self.keys:,} {'classes' if self.loss == 'arcface' else 'keys'}" if self.keys else ""
        return f"{self.loss}, B {self.batch:,}{keys}"

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Random embeddings: one array, or two views, or views and keys."""
        rng = np.random.default_rng(0)
        lengths = {"nt_xent": [self.batch] * 2, "info_nce": [self.batch, self.batch, self.keys]}
        lengths = lengths.get(self.loss, [self.batch, self.keys] if self.keys else [self.batch])
        return tuple(rng.standard_normal((length, D), np.float32) for length in lengths)

    def labels(self) -> np.ndarray:
        """Random classes, or four items of each."""
        return np.random.default_rng(1).integers(0, self.keys or max(self.batch // 4, 1), self.batch).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    losses: tuple[Literal["nt_xent", "info_nce", "sup_con", "triplet", "arcface"], ...] = LOSSES
    """which losses"""
    sizes: tuple[int, ...] = (256, 1024, 4096, 16384, 65536)
    """batch sizes; the queue of a million keys is measured up to 1,024, ArcFace's million classes at 256"""
    queues: tuple[int, ...] = (2**16, 2**20)
    """lengths of the queue"""
    classes: int = 10**6
    """of ArcFace"""
    rounds: int = 5
    """turns of each process"""
    memory_gib: float = 8.0
    """the limit of a process"""
    seconds: float = 120.0
    """the limit of a turn"""
    output: Path = Path("results/benchmark_losses.json")
    """where the figures go; those that are there of other cases stay"""

    def cases(self) -> list[Case]:
        """All that is to be measured."""
        cases = []
        for loss in self.losses:
            if loss == "arcface":
                cases.append(Case(loss, 256, self.classes))
            elif loss == "info_nce":
                cases += [Case(loss, b, k) for k in self.queues for b in self.sizes if b <= 1024 or k < 10**6]
            else:
                cases += [Case(loss, b) for b in self.sizes]
        return cases


Run = Callable[[], Any]


def jax_run(case: Case, loss: Callable[..., Any], gradients: int) -> Run:
    """Value and gradients by the first arrays, compiled; `loss` takes the case's arrays and its labels."""
    import jax

    arrays = jax.device_put((*case.arrays(), case.labels()))  # labels as constants would be folded into the program
    function = jax.jit(jax.value_and_grad(loss, tuple(range(gradients)))).lower(*arrays).compile()
    return lambda: jax.block_until_ready(function(*arrays))


def blockwise(case: Case, dtype: str = "float32") -> Run:
    """`ssljax.losses`."""
    import ssljax.losses as L

    loss, gradients = {
        "nt_xent": (lambda a, b, _: L.nt_xent(a, b, temperature=T, dtype=dtype), 2),
        "info_nce": (lambda a, b, q, _: L.info_nce(a, b, q, temperature=T, dtype=dtype), 1),
        "sup_con": (lambda z, y: L.sup_con(z, y, temperature=T), 1),
        "triplet": (lambda z, y: L.triplet(z, y, margin=0.2, mining="batch_hard"), 1),
        "multi_similarity": (lambda z, y: L.multi_similarity(z, y, alpha=ALPHA, beta=BETA, base=BASE), 1),
        "arcface": (lambda z, w, y: L.arcface(z, w, y, scale=SCALE, margin=MARGIN), 2),
    }[case.loss]
    return jax_run(case, loss, gradients)


def dense(case: Case) -> Run:
    """Plain JAX."""
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp

    from ssljax.losses import l2_normalise as unit

    own = functools.partial(jnp.eye, dtype=bool)

    def nt_xent(a, b, _):
        z = jnp.concatenate([unit(a), unit(b)])
        logits = jnp.where(own(2 * case.batch), -1e30, z @ z.T / T)
        return jnp.mean(logsumexp(logits, axis=1)) - jnp.mean(jnp.sum(unit(a) * unit(b), axis=1)) / T

    def info_nce(a, b, q, _):
        a, b, q = unit(a) / T, unit(b), unit(q)
        logits = jnp.concatenate([jnp.sum(a * b, axis=1, keepdims=True), a @ q.T], axis=1)
        return jnp.mean(logsumexp(logits, axis=1) - logits[:, 0])

    def sup_con(z, labels):
        z = unit(z)
        log_p = jax.nn.log_softmax(jnp.where(own(case.batch), -1e30, z @ z.T / T))
        positive = (labels[:, None] == labels[None]) & ~own(case.batch)
        number = jnp.sum(positive, axis=1)
        each = -jnp.sum(log_p, axis=1, where=positive) / jnp.maximum(number, 1)
        return jnp.sum(each) / jnp.sum(number > 0)

    def triplet(z, labels):
        z = unit(z)
        distance = jnp.sqrt(jnp.maximum(2 - 2 * z @ z.T, 1e-12))
        same = labels[:, None] == labels[None]
        positive, negative = jnp.where(same, distance, 0).max(axis=1), jnp.where(same, 9, distance).min(axis=1)
        active = jax.nn.relu(0.2 + positive - negative)
        return jnp.sum(active) / jnp.maximum(jnp.sum(active > 0), 1)

    def multi_similarity(z, labels):
        cosine = unit(z) @ unit(z).T
        same = labels[:, None] == labels[None]
        positive, one = same & ~own(case.batch), jnp.zeros((case.batch, 1))
        attract = logsumexp(jnp.append(one, jnp.where(positive, -ALPHA * (cosine - BASE), -1e30), axis=1), axis=1)
        repel = logsumexp(jnp.append(one, jnp.where(same, -1e30, BETA * (cosine - BASE)), axis=1), axis=1)
        return jnp.mean(attract / ALPHA + repel / BETA)

    def arcface(z, w, labels):
        cosine = unit(z) @ unit(w).T
        own_cosine = jnp.clip(cosine[jnp.arange(case.batch), labels], -1 + 1e-6, 1 - 1e-6)
        with_margin = SCALE * jnp.cos(jnp.arccos(own_cosine) + MARGIN)
        logits = (SCALE * cosine).at[jnp.arange(case.batch), labels].set(with_margin)
        return jnp.mean(logsumexp(logits, axis=1) - with_margin)

    loss = {"nt_xent": nt_xent, "info_nce": info_nce, "sup_con": sup_con, "triplet": triplet, "arcface": arcface}
    loss |= {"multi_similarity": multi_similarity}
    return jax_run(case, loss[case.loss], {"nt_xent": 2, "arcface": 2}.get(case.loss, 1))


def peer(case: Case) -> Run:
    """The peer's own class, in PyTorch; lightly's InfoNCE also writes the keys into its queue."""
    import torch

    arrays = [torch.tensor(x, requires_grad=True) for x in case.arrays()]
    labels = torch.tensor(case.labels().astype(np.int64))
    learnt = []
    if case.loss in PEERS:
        import_torchvision()
        from lightly.loss import NTXentLoss

        loss = NTXentLoss(temperature=T, memory_bank_size=(case.keys, D) if case.keys else 0)
        inputs = [arrays[0], arrays[1].detach()] if case.keys else arrays
    else:
        from pytorch_metric_learning import losses, miners

        if case.loss == "sup_con":
            supervised = losses.SupConLoss(temperature=T)
            loss, inputs = lambda z: supervised(z, labels), arrays
        elif case.loss == "triplet":
            margin, miner = losses.TripletMarginLoss(margin=0.2), miners.BatchHardMiner()
            loss, inputs = lambda z: margin(z, labels, miner(z, labels)), arrays
        elif case.loss == "multi_similarity":
            pairs = losses.MultiSimilarityLoss(alpha=ALPHA, beta=BETA, base=BASE)
            loss, inputs = lambda z: pairs(z, labels), arrays
        else:
            classes = losses.ArcFaceLoss(case.keys, D, margin=float(np.degrees(MARGIN)), scale=SCALE)
            loss, inputs, learnt = lambda z: classes(z, labels), arrays[:1], [classes.W]

    def run() -> float:
        for x in [*inputs, *learnt]:
            x.grad = None
        value = loss(*inputs)
        value.backward()
        return float(value.detach())

    return run


def device_peak_mib() -> float | None:
    """Peak memory of an accelerator; None if JAX has none."""
    import jax

    figures = jax.devices()[0].memory_stats()
    return figures and figures["peak_bytes_in_use"] / 2**20


def serve(make: Callable[[Case], Run], case: Case, pipe: Any) -> None:
    """A process of its own: whenever it is asked, it takes a turn and sends (seconds, peak MiB)."""
    try:
        run = make(case)
        forget_peak()
        before = memory_mib("VmRSS")
        run()
        pipe.send(None)
        seconds = 0.0
        while pipe.recv():
            if seconds < 2:
                run()  # the first after a wait finds its memory cold
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            on_device = None if make is peer else device_peak_mib()
            pipe.send((seconds, memory_mib("VmHWM") - before if on_device is None else on_device))
    except Exception as error:  # whatever it is belongs into the table
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        pipe.send("out of memory" if "memory" in text.lower() or "RESOURCE_EXHAUSTED" in text else text)


class Contestant:
    """The process of one implementation of a case."""

    def __init__(self, make: Callable[[Case], Run], case: Case, options: Options):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(make, case, theirs), daemon=True)
        self.options, self.turns, self.failure = options, [], None
        self.process.start()
        theirs.close()
        self.answer()

    def answer(self) -> Any:
        """What the process sends; None, with the failure noted, if it dies or goes beyond a limit."""
        began = time.perf_counter()
        while self.failure is None and not self.pipe.poll(0.01):
            if memory_mib("VmRSS", self.process.pid) > self.options.memory_gib * 1024:
                self.failure = f"out of memory ({self.options.memory_gib:g} GiB)"
            elif time.perf_counter() - began > self.options.seconds:
                self.failure = f"slower than {self.options.seconds:g} s"
        try:
            answer = None if self.failure else self.pipe.recv()
        except EOFError:
            answer = "out of memory (killed)"
        if isinstance(answer, str):
            self.failure = answer
        if self.failure:
            self.process.kill()
        return answer

    def turn(self) -> None:
        """Takes a turn, unless the turns so far took long enough."""
        if self.failure is None and sum(seconds for seconds, _ in self.turns) < self.options.seconds / 4:
            self.pipe.send(True)
            answer = self.answer()
            if self.failure is None:
                self.turns.append(answer)

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()


def race(case: Case, options: Options) -> dict[str, dict[str, float | None] | str]:
    """Implementation → figures, or why there are none."""
    makers: dict[str, Callable[[Case], Run]] = {"blockwise": blockwise}
    if case.loss in HALF:
        makers["blockwise, bfloat16"] = functools.partial(blockwise, dtype="bfloat16")
    makers["dense"] = dense
    name = PEERS.get(case.loss, "pml")
    installed = all(importlib.util.find_spec(package) for package in ("torch", PACKAGES[name]))
    makers |= {name: peer} if installed else {}
    contestants = {row: Contestant(make, case, options) for row, make in makers.items()}
    for _ in range(options.rounds):
        for contestant in contestants.values():
            contestant.turn()
    figures: dict[str, Any] = {}
    ours = [seconds for seconds, _ in contestants["blockwise"].turns]
    for row, contestant in contestants.items():
        contestant.close()
        if contestant.failure or not contestant.turns:
            figures[row] = contestant.failure or "not run"
            continue
        theirs = [seconds for seconds, _ in contestant.turns]
        ratios = [t / o for t, o in zip(theirs, ours, strict=False)]
        figures[row] = {
            "seconds": statistics.median(theirs),
            "ratio_to_blockwise": statistics.median(ratios) if ratios else None,
            "peak_mib": max(peak for _, peak in contestant.turns),
        }
    return figures if installed else figures | {name: f"not run ({PACKAGES[name]} not installed)"}


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    measure(options.cases(), options)


def measure(cases: list[Case], options: Options) -> None:
    """Each case in turn: one table, and what is written at `options.output`."""
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # cheaper pages, for all
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes share an accelerator
    figures, table = {}, Table("loss", "", "seconds", "ratio to blockwise", "peak MiB")
    for case in cases:
        figures[str(case)] = race(case, options)
        for row, row_figures in figures[str(case)].items():
            values = [] if isinstance(row_figures, str) else row_figures.values()
            cells = ["" if v is None else f"{v:,.4g}" for v in values] or [row_figures]
            table.add_row(str(case), row, *cells)
    Console().print(table)
    from ssljax.data.atomic_files import write_json
    from ssljax.training.run_folder import environment  # only now: it takes hold of the device

    before = json.loads(options.output.read_text())["table"] if options.output.exists() else {}
    write_json(options.output, {"environment": environment(), "table": before | figures})


if __name__ == "__main__":
    main()
