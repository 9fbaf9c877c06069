"""What the devices of a compiled program send each other."""

import re
from collections import Counter
from typing import NamedTuple

import jax
import numpy as np

KINDS = "ragged-all-to-all|all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter"


class Sent(NamedTuple):
    """An array that a collective gives to each device."""

    kind: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self):
        bits = 8 if self.dtype == "pred" else int(re.search(r"\d+", self.dtype)[0])
        return int(np.prod(self.shape)) * bits // 8


def sent(compiled) -> list[Sent]:
    """Of every collective in what `jax.jit(...).lower(...).compile()` gives, synchronous or not."""
    return [
        Sent(kind, dtype, tuple(int(n) for n in shape.split(",") if n))
        for results, kind in re.findall(rf"= (.*?) ({KINDS})(?:-start)?\(", compiled.as_text())
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", results)
    ]


def bytes_by_kind(arrays: list[Sent]) -> Counter:
    """Kind of collective → bytes."""
    total = Counter()
    for array in arrays:
        total[array.kind] += array.bytes
    return total


def step_of(training) -> jax.stages.Compiled:
    """The compiled step of a `tiny.Training`."""
    with jax.set_mesh(training.mesh):
        return training.step.lower(training.state, training.batch(0)).compile()
