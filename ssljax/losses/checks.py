"""What the losses refuse: what is no array of numbers, shapes that do not fit each other, and labels that are none.

A label is a whole number from 0, and -1 is that of an item to leave out. Where the values are there (a list, an array
outside of `jit`), others are refused. Within `jit` they are not: a label below -1, or not below the number of classes,
then makes the loss and its gradients NaN, so that no training goes on with it.
"""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ssljax.types import Array

LARGEST = np.iinfo(np.int32).max


def check_array(name: str, x: Any) -> Array:
    """`x` as an array; raises ValueError if it is not one of real numbers: text, or lists of unequal lengths."""
    x = array_of(name, x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"{name} of type {x.dtype} should be an array of real numbers")
    return jnp.asarray(x)


def check_same(name: str, x: Any, other: str, y: Any, axes: str = "[B, D]") -> tuple[Array, Array]:
    """Both as arrays; raises ValueError unless they have the same shape, with the axes that `axes` names."""
    x, y = check_array(name, x), check_array(other, y)
    if x.shape != y.shape or x.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} of shape {x.shape} and {other} of shape {y.shape} should both be {axes}")
    return x, y


def check_fits(name: str, x: Array, shape: tuple[int, ...], other: str, y: Array) -> None:
    """Raises ValueError unless `x` has the `shape` that `y` asks of it."""
    if x.shape != shape:
        raise ValueError(f"{name} of shape {x.shape} does not fit {other} of shape {y.shape}: {shape} would")


def check_features(name: str, x: Any, other: str, y: Array) -> Array:
    """`x` as an array; raises ValueError unless it is [N, D] with the D of `y`."""
    x = check_array(name, x)
    if x.ndim != 2 or x.shape[1] != y.shape[-1]:
        raise ValueError(f"{name} of shape {x.shape} and {other} of shape {y.shape} should have the same last axis")
    return x


def check_labelled(
    name: str, z: Any, labels: Any, classes: int | None = None, *, labels_name: str = "labels"
) -> tuple[Array, Array, Array]:
    """z [B, D] and labels i32[B] as arrays, and the factor of `check_labels`; raises ValueError for other shapes.

    The factor is in z already, so that its gradient is NaN too. The loss needs it as well: not all of it is made of z.
    """
    z, given = check_array(name, z), array_of(labels_name, labels)
    if z.ndim != 2 or given.shape != z.shape[:1]:
        raise ValueError(f"{name} of shape {z.shape} and {labels_name} of shape {given.shape} should be [B, D] and [B]")
    labels, sound = check_labels(labels_name, given, classes)
    z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(jnp.float32)
    return z * sound.astype(z.dtype), labels, sound


def check_labels(name: str, labels: Any, below: Any = None) -> tuple[Array, Array]:
    """Labels i32[...], and a factor f32[] for what is made of them: 1, or NaN if traced ones are no labels.

    below: the number of classes, an int or one for each of the last axis; None: any number up to 2**31 - 1. Raises
    ValueError for anything but whole numbers, and, unless they are traced, for those below -1 and those too large.
    """
    labels = array_of(name, labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name} of type {labels.dtype} should be whole numbers, from 0, and -1 for what to leave out")
    limits = np.broadcast_to(LARGEST if below is None else np.asarray(below, np.int32) - 1, labels.shape)
    if isinstance(labels, jax.core.Tracer) or not getattr(labels, "is_fully_addressable", True):
        narrow = labels.astype(jnp.int32)
        least = 0 if jnp.issubdtype(labels.dtype, jnp.unsignedinteger) else -1
        wrong = (narrow < least) | (narrow > limits) | (narrow.astype(labels.dtype) != labels)
        return narrow, jnp.where(jnp.any(wrong), jnp.nan, jnp.float32(1))
    values = np.asarray(labels)
    wrong = (values < -1) | (values > limits)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        value, most = values[place], limits[place]
        shown = f"{name}[{', '.join(map(str, place))}]={value}"
        if value < 0:
            raise ValueError(f"{shown} should be a whole number from 0, or -1 for what to leave out")
        if value > LARGEST:
            numbered = "numpy.unique(labels, return_inverse=True)[1] numbers them from 0"
            raise ValueError(f"{shown} does not fit 32 bits: it should be at most {LARGEST} ({numbered})")
        raise ValueError(f"{shown} should be at most {most}, or -1 for what to leave out")
    return jnp.asarray(values.astype(np.int32)), jnp.float32(1)


def array_of(name: str, x: Any) -> Array | np.ndarray:
    """`x`, or the NumPy array that lists are, of whatever type; raises ValueError for lists of unequal lengths."""
    if isinstance(x, jax.Array | np.ndarray):
        return x
    try:
        traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x))  # a list of what NumPy cannot see
        return jnp.asarray(x) if traced else np.asarray(x)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name} should be an array, or lists of equal lengths of numbers") from None
