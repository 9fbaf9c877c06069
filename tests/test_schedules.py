"""Schedules against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.schedules import Cosine, Linear, Steps, Warmup, check_schedule, value_at
from ssljax.types import UserError


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


def test_ends_of_a_schedule_are_checked_also_while_tracing():
    def traced(x):
        check_schedule("f", Cosine(0.9, 1.0), least=0, most=1)
        check_schedule("f", 0.5, above=0)
        return x

    jax.eval_shape(traced, jnp.zeros(()))
    with pytest.raises(UserError, match=r"^f must be at least 0 and at most 1, but it ends with 2$"):
        check_schedule("f", Linear(0.0, 2.0), least=0, most=1)
    for wrong in (None, "0.5", True):
        with pytest.raises(UserError, match=r"^f=.* must be a number or a schedule, such as Cosine"):
            check_schedule("f", wrong)
    with pytest.raises(UserError, match=r"Linear\.until=0 must be a share"):
        Linear(0.0, 1.0, until=0)
