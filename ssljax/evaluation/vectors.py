"""Vectors as retrieval needs them: checked, and scaled to unit length for the cosine."""

import jax.numpy as jnp
import numpy as np

from ssljax.types import Array, UserError


def checked(vectors: Array | np.ndarray, field: str, dim: int | None = None) -> np.ndarray:
    """f32[n, D], row-major: `vectors`, which may be of any real type.

    Args:
      vectors: real numbers [n, D].
      field: their name in an error.
      dim: the D that they must have; None for any.

    Raises:
      UserError: they are not a matrix of real numbers, not of width `dim`, or not finite in float32.
    """
    try:
        x = np.asarray(vectors)
    except ValueError:  # rows of several lengths
        raise UserError(f"{field} differ in length: they must be real numbers [n, D]") from None
    real = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)
    if x.ndim != 2 or x.shape[1] == 0 or not real:
        raise UserError(f"{field} are {x.dtype}{list(x.shape)}: they must be real numbers [n, D]")
    if dim is not None and x.shape[1] != dim:
        raise UserError(
            f"{field} have {x.shape[1]} dimensions: they must have {dim}, like the vectors they are compared with"
        )
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused
        x = np.ascontiguousarray(x, np.float32)
        # one pass instead of three: if the sum of squares is finite, so are the numbers
        bad = np.flatnonzero(~np.isfinite(_squares(x)))
    if len(bad):
        bad = bad[~np.isfinite(x[bad]).all(axis=1)]
    if len(bad):
        raise UserError(f"{field} hold NaN or infinity in {len(bad)} of {len(x)} rows (the first is row {bad[0]})")
    return x


def normalise(vectors: np.ndarray) -> np.ndarray:
    """f32[n, D] of unit length; a zero vector stays zero, and its cosine with everything is 0."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        squares = _squares(vectors)[:, None]
        unit = vectors * (1 / np.sqrt(squares))
    extreme = np.flatnonzero((squares < 1e-20) | (squares > 1e30))
    if len(extreme):  # their squares overflow or lose precision in float32: divide by the largest entry first
        x = vectors[extreme]
        largest = np.abs(x).max(axis=1, keepdims=True)
        x = x / np.where(largest > 0, largest, 1)
        unit[extreme] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))
    return unit


def _squares(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", vectors, vectors)
