"""Training steps to time: one of ssljax, and the processes in which steps of several frameworks take turns.

Nothing here imports jax or torch before a step asks for it, as each framework has a process of its own.
"""

import dataclasses
import functools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from memory import forget_peak, give_back_freed, memory_mib

# Of SGD with a momentum of .9, in every framework; a rate so low that no loss diverges on random views.
LR, WEIGHT_DECAY = 1e-4, 1e-4
STEPS = 10_000  # of the training that the steps are taken from the beginning of
# Dense bfloat16 FLOP/s, from the makers' data sheets.
PEAK = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12, "NVIDIA A100-SXM4-80GB": 312e12}

Step = tuple[Callable[[], float], Callable[[], float], dict[str, Any]]
"""Takes one step and waits for its loss; tells the peak memory, MiB; and what else is known."""


def random_views(batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random views, f32[B, S, S, 3] each."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(batch_size, size, size, 3)).astype(np.float32) for _ in range(2))


def ssljax_step(method: Any, batch: dict[str, Any]) -> Step:
    """The training step of a method, compiled, with the views in the batch and all of it on the device."""
    import jax

    from ssljax.optim import SGD
    from ssljax.train import init_state, train_step

    tx = SGD(lr=LR, weight_decay=WEIGHT_DECAY, schedule=1.0).build(STEPS, method)
    parts = {"augment": lambda rng, batch: batch, "method": method, "tx": tx}
    batch = jax.device_put(batch)
    state = jax.jit(functools.partial(init_state, **parts))(jax.random.PRNGKey(0), batch)
    step = jax.jit(functools.partial(train_step, **parts, total_steps=STEPS), donate_argnums=0)
    step = step.lower(state, batch).compile()
    device = jax.devices()[0]
    known = {"flops": (step.cost_analysis() or {}).get("flops"), "peak": PEAK.get(device.device_kind)}

    def run() -> float:
        nonlocal state
        state, metrics = step(state, batch)
        return float(metrics["loss"])

    def peak_mib() -> float:
        figures = device.memory_stats()  # None on a CPU
        return figures["peak_bytes_in_use"] / 2**20 if figures else memory_mib("VmHWM")

    return run, peak_mib, known


def serve(make: Callable[[Any], Step], case: Any, pipe: Any) -> None:
    """In a process of its own: takes as many steps as it is asked for, and tells the fastest's seconds and the memory.

    On a CPU the memory is the peak of the process, its libraries included, from the first step on: compilation is over.
    """
    run, peak_mib, known = make(case)
    give_back_freed()
    forget_peak()
    for _ in range(2):
        run()
    pipe.send(known)
    while steps := pipe.recv():
        loss = run()  # the first after a wait finds its memory cold
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        pipe.send((min(seconds), peak_mib()))


class Contestant:
    """The process of one step, which waits until it is its turn."""

    def __init__(self, make: Callable[[Any], Step], case: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(make, case, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.known = self._pipe.recv()

    def turn(self, steps: int) -> tuple[float, float]:
        """Takes steps; gives the seconds of the fastest and the peak MiB so far."""
        self.begin(steps)
        return self.end()

    def begin(self, steps: int) -> None:
        """Begins a turn, which `end` waits for."""
        self._pipe.send(steps)

    def end(self) -> tuple[float, float]:
        """What the turn came to."""
        return self._pipe.recv()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(0)
        self._process.join()


class Team:
    """Processes that take their steps at the same time, for libraries that use one core each."""

    def __init__(self, make: Callable[[Any], Step], case: Any, members: int):
        self._members = [Contestant(make, case) for _ in range(members)]

    def turn(self, steps: int) -> tuple[float, float]:
        """The seconds of the slowest and the sum of the peaks."""
        for member in self._members:
            member.begin(steps)
        seconds, peaks = zip(*(member.end() for member in self._members), strict=True)
        return max(seconds), sum(peaks)

    def close(self) -> None:
        """Ends the processes."""
        for member in self._members:
            member.close()


@dataclasses.dataclass(frozen=True)
class Turns:
    """What a contestant's turns came to."""

    turns: list[tuple[float, float]]

    @property
    def seconds(self) -> float:
        """The median turn's."""
        return statistics.median(seconds for seconds, _ in self.turns)

    @property
    def peak_mib(self) -> float:
        """The largest."""
        return max(peak for _, peak in self.turns)

    def ratio(self, other: "Turns") -> float:
        """The median of these seconds / the other's of the same round."""
        return statistics.median(s / o for (s, _), (o, _) in zip(self.turns, other.turns, strict=True))


def take_turns(contestants: Iterable[Contestant | Team], rounds: int, steps: int) -> dict[Contestant | Team, Turns]:
    """`rounds` times a turn of `steps` steps of each, one after the other."""
    turns = {contestant: Turns([]) for contestant in contestants}
    for _ in range(rounds):
        for contestant, its in turns.items():
            its.turns.append(contestant.turn(steps))
    return turns
