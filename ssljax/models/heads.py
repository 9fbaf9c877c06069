"""Projectors and predictors: what stands between an encoder's features and a loss."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.layers import Linear, check_sizes, conv, dense, gelu, he_fan_in, torch_linear, truncated_normal
from ssljax.models.norm import BatchNorm
from ssljax.types import Array, PyTree, UserError


class MLP(nn.Module):
    """Linear layers with ReLU, and on request BatchNorm, between them.

    A layer that BatchNorm follows has no bias of its own. The heads of the papers:

    - MoCo v1: `MLP(hidden=())`; MoCo v2: `MLP(hidden=(features,))`
    - SimCLR: `MLP(hidden=(features,), batch_norm=True, last_batch_norm=True)`
    - BYOL, projector and predictor: `MLP(hidden=(4096,), out=256, batch_norm=True, last_bias=False)`
    - SimSiam, projector: `MLP(hidden=(2048, 2048), out=2048, batch_norm=True, last_batch_norm=True,
      last_affine=False)`; predictor: `MLP(hidden=(512,), out=2048, batch_norm=True)`
    """

    hidden: Sequence[int] = (2048,)
    """width of each hidden layer; none makes the head linear"""
    out: int = 128
    """length of the result"""
    batch_norm: bool = False
    """BatchNorm after each hidden layer, before its ReLU"""
    last_batch_norm: bool = False
    """BatchNorm after the last layer"""
    last_affine: bool = True
    """that last BatchNorm learns a scale and a bias"""
    last_bias: bool = True
    """the last layer has a bias, unless BatchNorm follows it"""
    norm_groups: int = 1
    """parts of the batch that are normalised apart (split-BN); must divide the batch"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the matrix products' factors; parameters, statistics and the result stay float32"""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, F]; returns f32[B, out]. With `train` it updates `batch_stats`, if it has BatchNorm.

        Raises UserError if a width is below 1 or `norm_groups` does not divide B.
        """
        _check_widths(self.hidden, out=self.out)
        for i, width in enumerate(self.hidden):
            x = Linear(width, not self.batch_norm, self.dtype, name=f"linear{i}")(x)
            if self.batch_norm:
                x = BatchNorm(self.norm_groups, name=f"norm{i}")(x, train)
            x = nn.relu(x)
        x = Linear(self.out, self.last_bias and not self.last_batch_norm, self.dtype, name="linear_out")(x)
        if self.last_batch_norm:
            x = BatchNorm(self.norm_groups, affine=self.last_affine, name="norm_out")(x, train)
        return x


class DINOHead(nn.Module):
    """DINO's projector (Caron et al. 2021, appendix C): an MLP with GELU to a bottleneck, then cosines to prototypes.

    The prototypes are the paper's weight-normalised last layer with the gain fixed at 1; `prototypes` is their place in
    the parameters, for a method that freezes them at first.
    """

    hidden: Sequence[int] = (2048, 2048)
    """width of each hidden layer"""
    bottleneck: int = 256
    """length of the vector that the prototypes are compared with"""
    out: int = 65536
    """length of the result: the number of prototypes"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the matrix products' factors; parameters and the result stay float32"""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, F]; returns f32[B, out], cosines. Raises UserError if a width is below 1."""
        _check_widths(self.hidden, bottleneck=self.bottleneck)
        for i, width in enumerate(self.hidden):
            x = gelu(Linear(width, True, self.dtype, truncated_normal, name=f"linear{i}")(x))
        x = Linear(self.bottleneck, True, self.dtype, truncated_normal, name="linear_out")(x)
        return Prototypes(self.out, self.dtype, name="prototypes")(x, train)


class Prototypes(nn.Module):
    """Cosines to learnt prototypes (SwAV, Caron et al. 2020): a linear layer without bias between unit vectors."""

    out: int = 3000
    """number of prototypes"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the matrix product's factors; parameters and the result stay float32"""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, D]; returns f32[B, out]. Raises UserError if `out` is below 1."""
        check_sizes(out=self.out)
        kernel = self.param("kernel", torch_linear, (x.shape[-1], self.out), jnp.float32)
        return dense(_unit(x, axis=1).astype(self.dtype), _unit(kernel, axis=0).astype(self.dtype))


def cast_kernels(module: Any, params: PyTree) -> PyTree:
    """A module's parameters with its kernels in the type that it multiplies in, which it would cast them to anyway.

    Prototypes stay float32, as they are normalised first.
    """
    if getattr(module, "dtype", None) != "bfloat16" or isinstance(module, Prototypes):
        return params

    def cast(keys: tuple[Any, ...], x: Array) -> Array:
        *parents, name = (key.key for key in keys)
        return x.astype(jnp.bfloat16) if name == "kernel" and "prototypes" not in parents else x

    return jax.tree_util.tree_map_with_path(cast, params)


class Decoder(nn.Module):
    """Draws a small image of a vector: from 4 x 4 px, doubled and convolved until it is large enough."""

    side: int = 16
    """side of the image, px: 4, 8, 16, 32 ..."""
    width: int = 64
    """channels"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and convolutions; parameters and the result stay float32"""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, L]; returns f32[B, side, side, 3]. Raises UserError if a size cannot be."""
        check_sizes(width=self.width)
        if self.side < 4 or self.side & (self.side - 1):
            raise UserError(f"side={self.side} must be 4, 8, 16, 32 or another power of two")
        x = nn.relu(Linear(16 * self.width, True, self.dtype, name="linear")(x))
        x = x.reshape(-1, 4, 4, self.width).astype(self.dtype)
        while x.shape[1] < self.side:
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            kernel = self.param(f"kernel{x.shape[1]}", he_fan_in, (3, 3, self.width, self.width), jnp.float32)
            x = nn.relu(conv(x, kernel.astype(self.dtype), 1))
        pixels = Linear(3, True, self.dtype, name="pixels")(x.reshape(-1, self.width))
        return pixels.reshape(-1, self.side, self.side, 3)


def _unit(x: Array, axis: int) -> Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=axis, keepdims=True), 1e-12))


def _check_widths(hidden: Sequence[int], **others: int) -> None:
    check_sizes(**others)
    if min(hidden, default=1) < 1:
        raise UserError(f"hidden={hidden}: each layer must have a width of at least 1")


class Identity(nn.Module):
    """What comes in goes out: for a predictor that is left out."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x, as it is."""
        return x
