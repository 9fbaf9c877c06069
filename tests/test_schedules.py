"""Schedules against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.schedules import Cosine, Linear, Steps, Warmup, value_at


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (0.3, [0.3, 0.3, 0.3, 0.3]),
        (Linear(0.0, 1.0), [0.0, 0.25, 0.5, 1.0]),
        (Linear(1.0, 0.0, until=0.5), [1.0, 0.5, 0.0, 0.0]),
        (Cosine(0.99, 1.0), [0.99, 0.99 + 0.01 * (1 - np.cos(np.pi / 4)) / 2, 0.995, 1.0]),
        (Steps(1.0, at=(0.25, 0.9)), [1.0, 0.1, 0.1, 0.01]),
        (Warmup(0.5, Cosine(1.0, 0.0)), [0.0, 0.5, 1.0, 0.0]),
        (lambda progress: 2 * progress, [0.0, 0.5, 1.0, 2.0]),
    ],
)
def test_values(schedule, expected):
    progress = jnp.array([0.0, 0.25, 0.5, 1.0])
    got = jax.jit(jax.vmap(lambda p: value_at(schedule, p)))(progress)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_warmup_meets_the_schedule_after_it():
    schedule = Warmup(0.1, Cosine(1.0, 0.0))
    before, after = value_at(schedule, jnp.float32(0.1 - 1e-5)), value_at(schedule, jnp.float32(0.1 + 1e-5))
    np.testing.assert_allclose(before, after, atol=1e-3)
