"""The moving average that makes a teacher of a student."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods.base.ema import ema


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_a_share_of_the_teacher_stays(momentum):
    teacher, student = {"a": jnp.full(3, 2.0)}, {"a": jnp.full(3, 4.0)}
    np.testing.assert_allclose(ema(teacher, student, momentum)["a"], 4 - 2 * momentum * np.ones(3), rtol=1e-6)
