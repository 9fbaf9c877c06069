"""Vectors as retrieval wants them: checked before anything reads them, and of unit length for the cosine."""

import jax.numpy as jnp
import numpy as np

from ssljax.types import Array, UserError


def checked(vectors: Array, field: str, dim: int | None = None) -> np.ndarray:
    """f32[n, D], row-major: `vectors`, which may be of any real type.

    Args:
      vectors: real numbers [n, D].
      field: how an error calls them.
      dim: the D that they must have; any if None.

    Raises:
      UserError: they are no matrix of real numbers, not of width `dim`, or not finite as float32.
    """
    try:
        x = np.asarray(vectors)
    except ValueError:  # rows of several lengths
        raise UserError(f"{field} differ in length: real numbers [n, D] are needed") from None
    real = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)
    if x.ndim != 2 or x.shape[1] == 0 or not real:
        raise UserError(f"{field} are {x.dtype}{list(x.shape)}: real numbers [n, D] are needed")
    if dim is not None and x.shape[1] != dim:
        raise UserError(f"{field} have {x.shape[1]} dimensions: what they are compared with has {dim}")
    with np.errstate(over="ignore"):  # what leaves float32 becomes infinite, which is refused
        x = np.ascontiguousarray(x, np.float32)
        # one pass instead of three: where the sum of squares is finite, so are the numbers
        bad = np.flatnonzero(~np.isfinite(_squares(x)))
    if len(bad):
        bad = bad[~np.isfinite(x[bad]).all(axis=1)]
    if len(bad):
        raise UserError(f"{field} hold NaN or infinity in {len(bad)} of {len(x)} rows (the first is row {bad[0]})")
    return x


def normalise(vectors: np.ndarray) -> np.ndarray:
    """f32[n, D] of unit length; a zero vector stays zero, so that its cosine with everything is 0."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        squares = _squares(vectors)[:, None]
        unit = vectors * (1 / np.sqrt(squares))
    extreme = np.flatnonzero((squares < 1e-20) | (squares > 1e30))
    if len(extreme):  # the squares leave float32, or are not precise: divided by the largest entry first
        x = vectors[extreme]
        largest = np.abs(x).max(axis=1, keepdims=True)
        x = x / np.where(largest > 0, largest, 1)
        unit[extreme] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))
    return unit


def _squares(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", vectors, vectors)
