"""Schedules: functions of how far a training has come.

A scheduled field takes a number (constant), one of these, or your own function of the share of steps done, f32[] in
[0, 1]; `value_at` evaluates any of them. The schedules here take a `Progress`, so that jumps happen at a whole step, or
a plain share, traced or not.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.types import Array, Progress, Scheduled, UserError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The base of the schedules here: they are called with a `Progress`, your own functions with the share."""


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `end` in a straight line over the first `until` of training, then constant."""

    start: float
    end: float
    until: float = 1.0

    def __post_init__(self):
        if not 0 < self.until <= 1:
            raise UserError(f"Linear.until={self.until} must be a share of training, in (0, 1]")

    def __call__(self, progress: Progress | Array) -> Array:
        """f32[], the value at `progress`."""
        return self.start + (self.end - self.start) * jnp.clip(share_of(progress) / self.until, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """From `start` to `end` along half a cosine (Loshchilov and Hutter 2017, eq. 5, without restarts)."""

    start: float
    end: float

    def __call__(self, progress: Progress | Array) -> Array:
        """f32[], the value at `progress`."""
        share = jnp.clip(share_of(progress), 0.0, 1.0)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))


@dataclasses.dataclass(frozen=True)
class Steps(Schedule):
    """`start`, multiplied by `factor` each time one of `at` (shares of training) is reached."""

    start: float
    at: tuple[float, ...] = (0.6, 0.8)
    factor: float = 0.1

    def __post_init__(self):
        for share in self.at:
            if not 0 <= share <= 1:
                raise UserError(f"Steps.at={self.at} must be shares of training, in [0, 1], such as (0.6, 0.8)")

    def __call__(self, progress: Progress | Array) -> Array:
        """f32[], the value at `progress`."""
        passed = sum(jnp.asarray(reached(progress, share), jnp.float32) for share in self.at)
        return jnp.asarray(self.start * self.factor**passed, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line from 0 over the first `share` of training, then `then` over what is left of it."""

    share: float
    then: Scheduled

    def __post_init__(self):
        if not 0 <= self.share < 1:
            raise UserError(f"Warmup.share={self.share} must be a share of training, in [0, 1), such as 0.05")

    def __call__(self, progress: Progress | Array) -> Array:
        """f32[], the value at `progress`."""
        if isinstance(progress, Progress):
            rest, start = progress.after(self.share), Progress(jnp.zeros((), jnp.int32), 1)
        else:
            rest, start = (progress - self.share) / max(1.0 - self.share, 1e-9), jnp.zeros(())
        rising = value_at(self.then, start) * share_of(progress) / max(self.share, 1e-9)
        return jnp.where(share_of(progress) < self.share, rising, value_at(self.then, rest))


def value_at(schedule: Any, progress: Progress | Array) -> Array:
    """f32[], `schedule` at `progress`: a schedule of this module, a function of the share, or a number."""
    if callable(schedule):
        schedule = schedule(progress if isinstance(schedule, Schedule) else share_of(progress))
    return jnp.asarray(schedule, jnp.float32)


def reached(progress: Progress | Array, share: float) -> Array:
    """bool[], whether `share` of the training is done: at a whole step, if `progress` knows of steps."""
    return progress.reached(share) if isinstance(progress, Progress) else progress >= share


def share_of(progress: Progress | Array) -> Array:
    """f32[], the share of the training that is done."""
    return progress.share if isinstance(progress, Progress) else progress


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
