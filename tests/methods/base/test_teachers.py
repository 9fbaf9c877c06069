"""Teachers by themselves; what holds of every method with one is in `test_training`."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import EMA
from ssljax.methods.base.teachers import TeacherState


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_a_share_of_the_teacher_stays(momentum):
    teacher, student = ({"encoder": jnp.full(3, value), "projector": jnp.full(3, value)} for value in (2.0, 4.0))
    state = EMA(momentum).after_update(TeacherState(teacher, {}), student | {"predictor": jnp.ones(2)}, jnp.float32(0))
    for average in state.params.values():
        np.testing.assert_allclose(average, 4 - 2 * momentum * np.ones(3), rtol=1e-6)
