"""The layers that networks are made of, in plain lax and linen.

Arrays [..., C] are float32 or bfloat16 and so are the results; parameters, means and variances are float32. On a CPU
the operations are those of `ssljax.models.cpu`.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ssljax.models import cpu
from ssljax.sharding import on_cpu
from ssljax.types import Array, UserError

truncated_normal = nn.initializers.truncated_normal(0.02)
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # uniform in +-1 / sqrt(fan in)
he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@on_cpu(cpu.conv)
def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution of x [B, H, W, C] with a square kernel [k, k, C, F] (k odd), padded by k // 2.

    With a kernel [k, k, 1, C] each channel is convolved with its own (depthwise).
    """
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


@on_cpu(cpu.max_pool)
def max_pool(x: Array) -> Array:
    """3x3 maximum with stride 2, padded by 1: [B, H, W, C] to [B, ceil(H / 2), ceil(W / 2), C].

    Where entries tie for the maximum, the first gets the gradient; on a CPU they share it.
    """
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


@on_cpu(cpu.dense)
def dense(x: Array, kernel: Array, result: jnp.dtype = jnp.float32) -> Array:
    """x [..., C] @ kernel [C, F], summed in float32 and of the type `result`: [..., F]."""
    return jnp.dot(x, kernel, preferred_element_type=result)


@on_cpu(cpu.repeat)
def repeat(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` repeated along leading axes to `shape`, whose last axes are its own: how a bias meets a batch."""
    return jnp.broadcast_to(x, shape)


class Conv(nn.Module):
    """A square convolution without bias, padded by half its size."""

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), features] of the same type."""
        kernel = self.param("kernel", he_fan_out, (self.size, self.size, x.shape[-1], self.features), jnp.float32)
        return conv(x, kernel.astype(x.dtype), self.stride)


class DepthwiseConv(nn.Module):
    """A square convolution of each channel apart, without bias, padded by half its size."""

    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), C]."""
        kernel = self.param("kernel", he_fan_in, (self.size, self.size, 1, x.shape[-1]), jnp.float32)
        return conv(x, kernel.astype(x.dtype), self.stride)


class Linear(nn.Module):
    """x @ kernel + bias, by default with torch's initial range of the weights; the bias starts at zero."""

    features: int
    bias: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    kernel_init: nn.initializers.Initializer = torch_linear

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: f32[B, C]; returns f32[B, features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = dense(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)[None]
        return y


class Dense(nn.Module):
    """x @ kernel + bias, with weights from a truncated normal of deviation .02 and a bias that starts at zero."""

    features: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; returns [..., features]."""
        kernel = self.param("kernel", truncated_normal, (x.shape[-1], self.features), jnp.float32)
        if not self.bias:
            return dense(x, kernel.astype(x.dtype), x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return affine(x, kernel, bias)


def affine(x: Array, kernel: Array, bias: Array) -> Array:
    """x [..., C] @ kernel f32[C, F] + bias f32[F], of the type of x."""
    y = dense(x, kernel.astype(x.dtype), x.dtype)
    return y + repeat(bias.astype(x.dtype), y.shape)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels (Ba et al. 2016)."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; returns the same shape."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        y = x.astype(jnp.float32)
        y = y - y.mean(axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.eps)
        return (y * repeat(scale, y.shape) + repeat(bias, y.shape)).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of tokens to each other."""

    heads: int

    @nn.compact
    def __call__(self, x: Array, bias: Array | None = None, mask: Array | None = None) -> Array:
        """x: [B, N, C]; returns the same shape.

        `bias` [1, heads, N, N] is added to the logits; where `mask` bool[B, 1, N, N] is False nothing is attended to.
        If "intermediates" is mutable, `weights` f32[B, heads, N, N], what each token takes of each, is sown there.
        """
        # Three projections, not one that is cut in three: that would pad and add their gradients.
        q, k, v = (Dense(x.shape[-1], name=name)(x) for name in ("query", "key", "value"))
        q, k, v = (a.reshape(*a.shape[:2], self.heads, -1) for a in (q, k, v))
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", _weights(q, k, bias, mask))
        y = jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask)
        return Dense(x.shape[-1], name="out")(y.reshape(x.shape))


def _weights(q: Array, k: Array, bias: Array | None, mask: Array | None) -> Array:
    """f32[B, heads, N, N], what `dot_product_attention` weighs values by and does not give; q, k: [B, N, heads, C]."""
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k, preferred_element_type=jnp.float32) / q.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias
    return jax.nn.softmax(logits, axis=-1, where=mask)


class FeedForward(nn.Module):
    """Two layers with GELU between them."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; returns the same shape."""
        y = nn.gelu(Dense(self.hidden, name="linear1")(x), approximate=False)
        return Dense(x.shape[-1], name="linear2")(y)


class LayerScale(nn.Module):
    """A learnt factor for each channel of a branch (Touvron et al. 2021, CaiT, eq. 5)."""

    initial: float | None  # None: no factor

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; returns the same shape."""
        if self.initial is None:
            return x
        scale = self.param("scale", nn.initializers.constant(self.initial), x.shape[-1:], jnp.float32)
        return x * repeat(scale.astype(x.dtype), x.shape)


class DropPath(nn.Module):
    """Zeroes a branch for a share `rate` of the images, and divides it by 1 - rate for the others.

    It acts only with `train` and where `apply` is given an rng named "drop_path": a student has one, a teacher has not.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, ...]; returns the same shape."""
        if not (train and self.rate and self.has_rng("drop_path")):
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.rate, shape)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def check_sizes(**sizes: int | None) -> None:
    """Raises UserError if a field's value is below 1; None stands for a default."""
    for field, value in sizes.items():
        if value is not None and value < 1:
            raise UserError(f"{field}={value} is too small: it must be at least 1")


def drop_path_rates(drop_path: float, blocks: int) -> list[float]:
    """The rate of each block: from 0 in the first, in a straight line, to `drop_path` in the last.

    Raises UserError if `drop_path` is not in [0, 1).
    """
    if not 0 <= drop_path < 1:
        raise UserError(f"drop_path={drop_path} must be a share of the images, in [0, 1), such as 0.1")
    return [drop_path * i / max(1, blocks - 1) for i in range(blocks)]
