"""Losses that keep the features of an embedding apart, so that it cannot collapse; it is not L2-normalised.

Their matrices are [D, D]: with the batch split over devices, one such matrix is summed over them.
"""

import jax.numpy as jnp

from ssljax.losses.checks import check_same
from ssljax.types import Array, Scalar

BARLOW_EPSILON = 1e-5  # added to the variance, as BatchNorm does
VICREG_EPSILON = 1e-4  # added to the variance (Bardes et al. 2022, eq. 2)


def barlow_twins(z1: Array, z2: Array, *, lambd: Scalar) -> Array:
    """The cross-correlation of two views against the identity matrix (Barlow Twins, Zbontar et al. 2021, eq. 1).

    z1, z2: f32[B, D]. Each view is standardised by its own mean and biased variance over the batch. A sum over the
    D x D entries; those off the diagonal weigh `lambd`.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    batch, features = z1.shape
    correlation = jnp.matmul(_standardise(z1).T, _standardise(z2), precision="highest") / batch
    diagonal = jnp.eye(features, dtype=bool)
    return jnp.sum(jnp.where(diagonal, jnp.square(1 - correlation), lambd * jnp.square(correlation)))


def vicreg(z1: Array, z2: Array, *, invariance: Scalar, variance: Scalar, covariance: Scalar) -> Array:
    """invariance x s + variance x v + covariance x c (VICReg, Bardes et al. 2022, eq. 6).

    z1, z2: f32[B, D]. s is the mean squared difference over B and D, as in the authors' code (eq. 5 sums over D); v
    the hinge 1 - std, averaged over D and, as in the authors' code, over the two views (the paper sums these); c
    the sum of squares off the diagonal of the covariance matrix over D, summed over the views. Variances and
    covariances divide by B - 1.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    z1, z2 = jnp.asarray(z1, jnp.float32), jnp.asarray(z2, jnp.float32)
    (hinge1, off1), (hinge2, off2) = _spread(z1), _spread(z2)
    difference = jnp.mean(jnp.square(z1 - z2))
    return invariance * difference + variance * (hinge1 + hinge2) / 2 + covariance * (off1 + off2)


def _standardise(z: Array) -> Array:
    z = jnp.asarray(z, jnp.float32)
    z = z - jnp.mean(z, axis=0, keepdims=True)
    return z / jnp.sqrt(jnp.mean(jnp.square(z), axis=0, keepdims=True) + BARLOW_EPSILON)


def _spread(z: Array) -> tuple[Array, Array]:
    """The hinge on the standard deviations, and the squares of the covariances over D."""
    batch, features = z.shape
    z = z - jnp.mean(z, axis=0, keepdims=True)
    matrix = jnp.matmul(z.T, z, precision="highest") / max(batch - 1, 1)
    std = jnp.sqrt(jnp.diagonal(matrix) + VICREG_EPSILON)
    off_diagonal = jnp.where(jnp.eye(features, dtype=bool), 0, matrix)
    return jnp.mean(jnp.maximum(1 - std, 0)), jnp.sum(jnp.square(off_diagonal)) / features
