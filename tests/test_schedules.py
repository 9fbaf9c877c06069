"""Schedules against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.schedules import Cosine, Linear, Steps, Warmup, check_schedule, value_at
from ssljax.types import Progress, UserError


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


def first_steps(schedule, total):
    """The steps at which a schedule's value changes, in a compiled training."""
    values = jax.jit(lambda progress: value_at(schedule, progress))(Progress(np.arange(total + 1), total))
    return (np.flatnonzero(np.diff(values)) + 1).tolist()


def test_thresholds_are_at_whole_steps_as_people_count_them():
    """A share in tenths of a total in tens is a whole number of steps; PyTorch's MultiStepLR lowers the rate there."""
    for total in range(10, 2001, 10):
        progress = Progress(np.arange(total), total)
        for tenths in range(1, 10):
            assert np.argmax(progress.reached(tenths / 10)) == total * tenths // 10, (total, tenths)
    for total in (10, 50, 100, 250, 1000):
        assert first_steps(Steps(1.0, at=(0.3, 0.6, 0.9)), total) == [total * n // 10 for n in (3, 6, 9)]
    for total, share, step in ((105, 0.1, 11), (15, 0.7, 11), (104, 0.1, 10), (3, 1 / 3, 1), (30, 0.1 + 0.2, 9)):
        assert first_steps(Steps(1.0, at=(share,)), total) == [step]
        assert [Progress(n, total).reached(share) for n in (step - 1, step)] == [False, True]
    beyond_float32 = 2**24 + 1
    assert Progress(jnp.int32(beyond_float32), 2 * beyond_float32).reached(0.5)
    assert not Progress(jnp.int32(beyond_float32 - 1), 2 * beyond_float32).reached(0.5)


def test_a_threshold_after_a_warmup_is_at_a_whole_step():
    # .1 of 100 steps are the warm-up, and .5 of the 90 that are left come before the rate falls.
    values = [float(value_at(Warmup(0.1, Steps(1.0, at=(0.5,))), Progress(step, 100))) for step in (9, 10, 54, 55)]
    np.testing.assert_allclose(values, [0.9, 1.0, 1.0, 0.1], rtol=1e-6)


@pytest.mark.parametrize("total", [7, 1000, 999_983])
def test_what_changes_smoothly_is_that_of_float64(total):
    def exact(share):
        rest = (share - 0.05) / 0.95
        return np.where(share < 0.05, share / 0.05, (1 + np.cos(np.pi * np.clip(rest, 0, 1))) / 2)

    steps = np.unique(np.linspace(0, total, 1001).astype(np.int32))
    schedule = Warmup(0.05, Cosine(1.0, 0.0))
    got = jax.jit(jax.vmap(lambda step: value_at(schedule, Progress(step, total))))(steps)
    np.testing.assert_allclose(got, exact(steps.astype(np.float64) / total), atol=1e-6)
    linear = jax.jit(jax.vmap(lambda step: value_at(Linear(0.0, 1.0, until=0.3), Progress(step, total))))(steps)
    np.testing.assert_allclose(linear, np.clip(steps / total / 0.3, 0, 1), atol=1e-6)


@pytest.mark.parametrize("total", [10, 50, 100, 250, 1000])
def test_a_function_of_ones_own_may_compare_the_share(total):
    for tenths in range(1, 10):
        steps = first_steps(lambda share, at=tenths / 10: jnp.where(share >= at, 0.1, 1.0), total)
        assert steps == [total * tenths // 10]


def test_a_function_of_ones_own_gets_the_share():
    assert float(value_at(lambda share: 2 * share, Progress(jnp.int32(3), 4))) == pytest.approx(1.5)


def test_shares_that_are_none_are_refused():
    for wrong, sentence in (
        (lambda: Steps(1.0, at=(60, 80)), r"Steps\.at=\(60, 80\) must be shares of training"),
        (lambda: Warmup(5, 1.0), r"Warmup\.share=5 must be a share of training"),
    ):
        with pytest.raises(UserError, match=sentence):
            wrong()


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
