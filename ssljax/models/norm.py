"""Batch normalisation over the global batch, or over parts of it (split-BN), which may be drawn at random."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.sharding import all_rows, device_count, own_rows, share_axes
from ssljax.types import Array, UserError


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015), its statistics in float32.

    Under jit over a mesh the statistics are those of the global batch. With `groups` > 1 each consecutive part of the
    batch has its own statistics, which then reveal less about which items are positives of each other (the effect of
    MoCo's batch normalisation on `groups` devices); the running statistics are the mean over the groups.
    """

    groups: int = 1  # parts of the batch with their own statistics; must divide the batch
    momentum: float = 0.9  # share of the running statistics that a step keeps
    eps: float = 1e-5  # added to the variance
    affine: bool = True  # learn a scale and a bias for each channel
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, train: bool, places: Array | None = None) -> Array:
        """x: [B, ..., C] in float32 or bfloat16, and so is the result.

        places: i32[B], a permutation: item b belongs to the part of the batch that holds its place, as if the batch
        were shuffled, but no item moves. None: each item is in its own place. See `in_places`.

        Raises UserError if training or initialising and `groups` does not divide B.
        """
        if (train or self.is_initializing()) and (self.groups < 1 or all_rows(x.shape[0]) % self.groups):
            raise UserError(
                f"norm_groups={self.groups} does not divide the batch of {all_rows(x.shape[0])}: "
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

        if self.groups == 1:
            mean, var = _moments(x, share_axes())
            y = _affine(x, mean, var + self.eps, scale, bias)
        else:
            y, mean, var = self._in_groups(x, places, scale, bias)
            mean, var = mean.mean(axis=0), var.mean(axis=0)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y

    def _in_groups(self, x: Array, places: Array | None, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
        """x normalised, and the mean and variance f32[groups, C] of each part, or of those on this device."""
        batch = all_rows(x.shape[0])
        size = batch // self.groups
        apart = self.groups % device_count() == 0 or device_count() % self.groups == 0
        if places is None and apart and self.groups % all_rows(1) == 0:
            # Each part lies on one device, or on some that have no other.
            parts = x.reshape(-1, size, *x.shape[1:])
            mean, var = jax.vmap(_moments)(parts)
            affine = functools.partial(_affine, scale=scale, bias=bias)
            return jax.vmap(affine)(parts, mean, var + self.eps).reshape(x.shape), mean, var
        group = own_rows(jnp.arange(batch) if places is None else places) // size
        # Each item's moments where it is, their sums over the parts f32[groups, C]: this alone goes between devices.
        own = x.astype(jnp.float32).reshape(len(x), -1, x.shape[-1])
        own = jnp.concatenate([own.mean(axis=1), (own * own).mean(axis=1)], axis=1)
        member = jax.nn.one_hot(group, self.groups, axis=0)
        sums = jax.lax.psum(jnp.matmul(member, own, precision="highest"), share_axes())
        mean, square = jnp.split(sums / size, 2, axis=1)
        var = jnp.maximum(square - mean * mean, 0)
        return jax.vmap(_affine, (0, 0, 0, None, None))(x, mean[group], var[group] + self.eps, scale, bias), mean, var


@contextlib.contextmanager
def in_places(places: Array) -> Iterator[None]:
    """Within it, every BatchNorm that is applied takes the parts of its batch by `places` i32[B], a permutation.

    What MoCo's shuffling (He et al. 2020, section 3.3) is for, without moving an image: the same as permuting the
    batch, applying, and permuting the result back. A network that sees the batch in parts (see
    `ssljax.methods.base.accumulate`) takes a permutation of a part instead, the order of the first places.
    """

    def call(method: Callable, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            rows = all_rows(args[0].shape[0])
            own = places if rows == len(places) else jnp.argsort(jnp.argsort(places[:rows]))
            kwargs = {**kwargs, "places": own}
        return method(*args, **kwargs)

    with nn.intercept_methods(call):
        yield


def norm_groups(encoder: Any) -> int | None:
    """Parts of the batch that an encoder's BatchNorm normalises apart; None for encoders without it, such as a ViT."""
    return getattr(encoder, "norm_groups", None)


def _moments(x: Array, axes: tuple[str, ...] = ()) -> tuple[Array, Array]:
    """Mean and biased variance f32[C] of x [..., C], over axes of the mesh too."""
    x = x.astype(jnp.float32).reshape(-1, x.shape[-1])
    mean, square = jax.lax.pmean((x.mean(axis=0), (x * x).mean(axis=0)), axes)
    return mean, jnp.maximum(square - mean * mean, 0)


def _affine(x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
    scale = scale * jax.lax.rsqrt(var)
    shift = bias - mean * scale
    lead = (1,) * (x.ndim - 1)
    return (x * scale.reshape(*lead, -1) + shift.reshape(*lead, -1)).astype(x.dtype)
