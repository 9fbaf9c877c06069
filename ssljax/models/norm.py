"""Batch normalisation over the global batch, or over consecutive parts of it (split-BN)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.types import Array, UserError


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015), its statistics in float32.

    Under jit over a mesh the statistics are over the global batch, as the mean is. With `groups` > 1 each consecutive
    part of the batch has its own statistics, so that they tell a contrastive loss less about who is whose positive
    (the effect of MoCo's shuffling batch normalisation on `groups` devices); the running statistics are the mean over
    the groups.
    """

    groups: int = 1  # parts of the batch with their own statistics; must divide the batch
    momentum: float = 0.9  # share of the running statistics that a step keeps
    eps: float = 1e-5  # added to the variance
    affine: bool = True  # learn a scale and a bias for each channel
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, ..., C] in float32 or bfloat16, and so is the result.

        Raises UserError if training or initialising and `groups` does not divide B.
        """
        if (train or self.is_initializing()) and (self.groups < 1 or x.shape[0] % self.groups):
            raise UserError(
                f"norm_groups={self.groups} does not divide the batch of {x.shape[0]}: "
                f"choose a positive divisor of the batch size"
            )
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        scale, bias = jnp.ones(channels), jnp.zeros(channels)
        if self.affine:
            scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
            bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        if not train:
            return _affine(x, running_mean.value, running_var.value + self.eps, scale, bias)

        def normalise(part: Array) -> tuple[Array, Array, Array]:
            mean, var = _moments(part)
            return _affine(part, mean, var + self.eps, scale, bias), mean, var

        if self.groups == 1:
            y, mean, var = normalise(x)
        else:
            y, mean, var = jax.vmap(normalise)(x.reshape(self.groups, -1, *x.shape[1:]))
            y, mean, var = y.reshape(x.shape), mean.mean(axis=0), var.mean(axis=0)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y


def norm_groups(encoder: Any) -> int | None:
    """Parts of the batch that an encoder's BatchNorm normalises apart; None if it has no such setting, as a ViT.

    The encoder is a linen module, or what stands for one, as `Pretrained`.
    """
    return getattr(encoder, "norm_groups", None)


def _moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance f32[C] of x [..., C]."""
    x = x.astype(jnp.float32).reshape(-1, x.shape[-1])
    mean = x.mean(axis=0)
    return mean, jnp.maximum((x * x).mean(axis=0) - mean * mean, 0)


def _affine(x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
    scale = scale * jax.lax.rsqrt(var)
    shift = bias - mean * scale
    lead = (1,) * (x.ndim - 1)
    return (x * scale.reshape(*lead, -1) + shift.reshape(*lead, -1)).astype(x.dtype)
