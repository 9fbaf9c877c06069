"""Normalisation to unit length, in float32, and square roots: safe at zero."""

import jax
import jax.numpy as jnp

from ssljax.losses.checks import check_array
from ssljax.types import Array

SMALLEST_NORM = 1e-6


def l2_normalise(x: Array) -> Array:
    """f32[..., D], `x` divided by its norm along the last axis; vectors shorter than 1e-6 are divided by 1e-6.

    The maximum is taken of the squares, so that the gradient at 0 is finite; float16, in which it would not
    be, raises ValueError.
    """
    x = check_array("x", x)
    if x.dtype == jnp.float16:
        raise ValueError(f"float16 of shape {x.shape} overflows in the gradient: use bfloat16 or float32")
    x = jnp.asarray(x, jnp.float32)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, SMALLEST_NORM**2))


def safe_sqrt(x: Array) -> Array:
    """The square root of x; 0, with a gradient of 0, where x is 0 or, by rounding, below."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
