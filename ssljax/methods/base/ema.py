"""The moving average that makes a teacher of a student."""

import jax

from ssljax.types import Array, PyTree


def ema(teacher: PyTree, student: PyTree, momentum: Array) -> PyTree:
    """`momentum` x teacher + (1 - momentum) x student, leaf by leaf."""
    return jax.tree.map(lambda t, s: momentum * t + (1.0 - momentum) * s, teacher, student)
