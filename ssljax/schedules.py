"""Schedules: functions of `progress`, which is step / total steps in [0, 1].

A field that may be scheduled takes a number (constant) or one of these; `value_at` reads either. They compute with
`jax.numpy`, so they work on traced values inside the step as well as on plain numbers.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.types import Array, UserError


@dataclasses.dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line over the first `until` of training, then constant."""

    start: float
    end: float
    until: float = 1.0

    def __post_init__(self):
        if not 0 < self.until <= 1:
            raise UserError(f"Linear.until={self.until} must be a share of training, in (0, 1]")

    def __call__(self, progress: Array) -> Array:
        """f32[], the value at `progress`."""
        return self.start + (self.end - self.start) * jnp.clip(progress / self.until, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine (Loshchilov and Hutter 2017, eq. 5, without restarts)."""

    start: float
    end: float

    def __call__(self, progress: Array) -> Array:
        """f32[], the value at `progress`."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))


@dataclasses.dataclass(frozen=True)
class Steps:
    """`start`, multiplied by `factor` each time one of `at` (shares of training) is passed."""

    start: float
    at: tuple[float, ...] = (0.6, 0.8)
    factor: float = 0.1

    def __call__(self, progress: Array) -> Array:
        """f32[], the value at `progress`."""
        passed = sum(jnp.asarray(progress >= share, jnp.float32) for share in self.at)
        return self.start * self.factor**passed


@dataclasses.dataclass(frozen=True)
class Warmup:
    """A straight line from 0 over the first `share` of training, then `then` over what is left of it."""

    share: float
    then: Any

    def __call__(self, progress: Array) -> Array:
        """f32[], the value at `progress`."""
        rest = value_at(self.then, (progress - self.share) / max(1.0 - self.share, 1e-9))
        rising = value_at(self.then, jnp.zeros(())) * progress / max(self.share, 1e-9)
        return jnp.where(progress < self.share, rising, rest)


def value_at(schedule: Any, progress: Array) -> Array:
    """f32[], `schedule` at `progress`: a schedule of this module (or any function of progress), or a number."""
    return jnp.asarray(schedule(progress) if callable(schedule) else schedule, jnp.float32)


def check_schedule(
    field: str, schedule: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raises UserError unless `schedule` begins and ends training with a finite number in the range given.

    `above` is left out of the range, `least` and `most` are in it.
    """
    if not callable(schedule) and (isinstance(schedule, bool) or not isinstance(schedule, numbers.Real)):
        raise UserError(f"{field}={schedule!r} must be a number or a schedule, such as Cosine(0.9, 1.0)")
    bounds = {"above": above, "at least": least, "at most": most}
    right = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))
    for progress, when in ((0.0, "begins with"), (1.0, "ends with")):
        with jax.ensure_compile_time_eval():  # where the method's initialisation is only traced
            value = float(value_at(schedule, jnp.float32(progress)))
        if not (math.isfinite(value) and above < value and least <= value <= most):
            what, but = (field, f", but it {when} {value:g}") if callable(schedule) else (f"{field}={schedule}", "")
            raise UserError(f"{what} must be {right}{but}")
