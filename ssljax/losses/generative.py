"""Losses of models that draw an image again."""

import jax.numpy as jnp

from ssljax.losses.checks import check_array, check_same
from ssljax.types import Array, Scalar

LARGEST_LOG_VARIANCE = 50.0  # exp goes on as a straight line above it


def vae(reconstruction: Array, image: Array, mean: Array, log_variance: Array, *, beta: Scalar) -> Array:
    """Half the squared error + beta x KL to N(0, 1), in nats an image, mean over the batch: minus the ELBO at beta 1.

    reconstruction, image: f32[B, ...]; mean, log_variance: f32[B, L], of the posterior. The pixels are Gaussian with
    variance 1 around the reconstruction; its constant is left out (Kingma and Welling 2014, appendix B; beta: Higgins
    et al. 2017, eq. 4). Code that sums the squared error without the half has twice this at beta / 2.
    """
    reconstruction, image = check_array("reconstruction", reconstruction), check_array("image", image)
    if image.ndim < 2 or reconstruction.shape != image.shape:
        raise ValueError(
            f"reconstruction of shape {reconstruction.shape} and image of shape {image.shape} should both be [B, ...]"
        )
    mean, log_variance = check_same("mean", mean, "log_variance", log_variance, "[B, L]")
    batch = image.shape[0]
    if mean.shape[0] != batch:
        raise ValueError(f"mean of shape {mean.shape} has another batch than image of shape {image.shape}")
    reconstruction, image, mean, log_variance = (
        jnp.asarray(x, jnp.float32) for x in (reconstruction, image, mean, log_variance)
    )
    kl = jnp.sum(_safe_exp(log_variance) + jnp.square(mean) - 1 - log_variance) / 2
    return (jnp.sum(jnp.square(reconstruction - image)) / 2 + beta * kl) / batch


def _safe_exp(x: Array) -> Array:
    """exp(x), and its tangent above LARGEST_LOG_VARIANCE: finite, with a gradient that still points down."""
    within = jnp.minimum(x, LARGEST_LOG_VARIANCE)
    return jnp.exp(within) * (1 + x - within)
