"""The layers that networks are made of, in plain lax and linen.

Arrays [..., C] are float32 or bfloat16 and so are the results; parameters, means and variances are float32. On a CPU
the operations are those of `ssljax.models.cpu`.
"""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ssljax.models import cpu, tpu
from ssljax.models.blocks import kept
from ssljax.sharding import ANY, device_count, on_cpu, on_own_items, target_platform
from ssljax.types import Array, UserError

truncated_normal = nn.initializers.truncated_normal(0.02)
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # uniform in +-1 / sqrt(fan in)
he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


Padding = Literal["torch", "tensorflow"]


@on_cpu(cpu.conv)
def conv(x: Array, kernel: Array, stride: int = 1, pads: cpu.Pads | None = None) -> Array:
    """Convolution of x [B, H, W, C] with a square kernel [k, k, C, F] (k odd), padded by k // 2, or by `pads`.

    With a kernel [k, k, 1, C] each channel is convolved with its own (depthwise).
    """
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads or ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def pads_of(padding: Padding, x: Array, size: int, stride: int) -> cpu.Pads | None:
    """Where zeros are added to x [B, H, W, C] for a convolution with ceil(H / stride) rows.

    torch: size // 2 on each side. tensorflow: no more than that needs; of an odd number the larger half below and to
    the right ("SAME"). At stride 2 the results differ where H or W is even, by a pixel's shift.
    """
    if padding == "torch":
        return None
    (top, bottom), (left, right) = lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    return (top, bottom), (left, right)


@on_cpu(cpu.max_pool)
def max_pool(x: Array) -> Array:
    """3x3 maximum with stride 2, padded by 1: [B, H, W, C] to [B, ceil(H / 2), ceil(W / 2), C].

    Where entries tie for the maximum, the first gets the gradient; on a CPU they share it.
    """
    if target_platform() == ANY:  # converters to ONNX fail on windows that have a size in the channels
        for axis in (1, 2):
            middle = np.arange(0, x.shape[axis], 2)
            rows = (np.clip(middle + k, 0, x.shape[axis] - 1) for k in (-1, 0, 1))
            x = functools.reduce(jnp.maximum, (jnp.take(x, row, axis, mode="clip") for row in rows))
        return x
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)


def average(x: Array, cells: int, option: str = "") -> Array:
    """x [B, H, W, C] averaged over `cells` x `cells` parts, as equal as can be: f32[B, cells * cells * C].

    Raises UserError, which names the `option`, if x has fewer rows or columns than `cells`.
    """
    x, (_, height, width, _) = x.astype(jnp.float32), x.shape
    if min(height, width) < cells:
        wanted = (
            f"{option} has a grid of {cells}, which is more than its"
            if option
            else f"pool={cells} is more than the last"
        )
        raise UserError(f"{wanted} map's {height} x {width}: try a larger view")
    rows, columns = ([slice(n * i // cells, -(-n * (i + 1) // cells)) for i in range(cells)] for n in (height, width))
    return jnp.concatenate([x[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns], axis=1)


def unit(x: Array) -> Array:
    """The rows of x f32[B, F], scaled to length 1."""
    return x * lax.rsqrt(jnp.sum(x * x, axis=1, keepdims=True) + 1e-12)


@on_cpu(cpu.dense, when=lambda: target_platform() in ("cpu", ANY))  # a product of two matrices: ONNX can quantise it
def dense(x: Array, kernel: Array, result: jnp.dtype = jnp.float32) -> Array:
    """x [..., C] @ kernel [C, F], summed in float32 and of the type `result`: [..., F]."""
    return jnp.dot(x, kernel, preferred_element_type=result)


@on_cpu(cpu.repeat)
def repeat(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` repeated along leading axes to `shape`, whose last axes are its own: how a bias meets a batch."""
    return jnp.broadcast_to(x, shape)


class Conv(nn.Module):
    """A square convolution without bias."""

    features: int
    size: int
    stride: int = 1
    padding: Padding = "torch"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), features] of the same type."""
        kernel = self.param("kernel", he_fan_out, (self.size, self.size, x.shape[-1], self.features), jnp.float32)
        return conv(x, kernel.astype(x.dtype), self.stride, pads_of(self.padding, x, self.size, self.stride))


class DepthwiseConv(nn.Module):
    """A square convolution of each channel apart."""

    size: int
    stride: int
    padding: Padding = "torch"
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), C]."""
        kernel = self.param("kernel", he_fan_in, (self.size, self.size, 1, x.shape[-1]), jnp.float32)
        y = conv(x, kernel.astype(x.dtype), self.stride, pads_of(self.padding, x, self.size, self.stride))
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
            y = y + repeat(bias.astype(x.dtype), y.shape)
        return y


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
    if target_platform() == "tpu" and tpu.suits_plus(x, kernel):
        return tpu.plus(y, bias)
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
    biases: tuple[str, ...] = ("query", "key", "value")
    """the projections that have a bias, of those three"""
    rope: tuple[int, int] | None = None
    """rows and columns of the last tokens, by which queries and keys are rotated; None: they are not"""

    @nn.compact
    def __call__(
        self,
        x: Array,
        bias: Array | None = None,
        mask: Array | np.ndarray | None = None,
        query: Array | None = None,
        places: np.ndarray | None = None,
    ) -> Array:
        """x: [B, N, C]; returns the same shape, or that of `query` f32[B, M, C] if it attends instead of x f32.

        `bias`, `mask` and `places` are those of `attention`. If "intermediates" is mutable, `weights` f32[B, heads, N,
        N], what each token takes of each, is sown there.
        """
        # Three projections, not one that is cut in three: that would pad and add their gradients.
        sources = {"query": x if query is None else query, "key": x, "value": x}
        q, k, v = (Dense(x.shape[-1], name in self.biases, name=name)(source) for name, source in sources.items())
        if self.rope:
            q, k = (rotate(y, self.heads, self.rope) for y in (q, k))
        if self.is_mutable_collection("intermediates"):
            own_q, own_k = (q, k) if places is None else (_in_windows(q, places), _in_windows(k, places))
            self.sow("intermediates", "weights", _weights(own_q, own_k, self.heads, bias, mask))
        return Dense(x.shape[-1], name="out")(attention(q, k, v, self.heads, bias, mask, places))


def attention(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    bias: Array | None = None,
    mask: Array | np.ndarray | None = None,
    places: np.ndarray | None = None,
) -> Array:
    """The attention of `heads` parts of the channels of q, k and v [B, N, C]: [B, N, C].

    `bias` [1, heads, N, N] is added to the logits. Where `mask` bool[M, 1, N, N] is False nothing is attended to: row i
    is of the items i, i + M, ... With `places` [W, N], tokens attend within windows: window w has the tokens places[w],
    and each of an item's W * N tokens is in one. Rows of the mask are then of windows, the first item's first.

    In bfloat16 accelerators do not keep the weights [B, heads, N, N]: TPUs if the mask is NumPy's and hence a constant,
    see `tpu.attention`; GPUs without bias and mask, by cuDNN.
    """
    platform, head, turns = target_platform(), q.shape[-1] // heads, 1 if mask is None else len(mask)
    constant = mask[:, 0] if isinstance(mask, np.ndarray) else None
    windows = 1 if places is None else len(places)
    items = turns // math.gcd(turns, windows)
    whole = q.shape[0] % (device_count() * items) == 0
    small = places is not None or turns <= _TURNS
    known = mask is None or constant is not None
    if platform == "tpu" and known and whole and small and tpu.suits_attention(q, heads, windows):
        fused = functools.partial(tpu.attention, heads=heads, mask=constant, places=places)
        return kept(on_own_items(fused, q, k, v, whole=None if bias is None else bias[0]))
    if places is not None:
        own_q, own_k, own_v = (_in_windows(x, places) for x in (q, k, v))
        y = attention(own_q, own_k, own_v, heads, bias, mask)
        return y.reshape(q.shape)[:, np.argsort(places, axis=None)]
    if platform == "gpu" and q.dtype == jnp.bfloat16 and bias is mask is None and head % 8 == 0 and head <= 128:
        return kept(_cudnn_attention(q, k, v, heads))
    parts = _heads(q, heads), _heads(k, heads), _heads(v, heads)
    return jax.nn.dot_product_attention(*parts, bias=bias, mask=_of_items(mask, q.shape[0])).reshape(q.shape)


def _in_windows(x: Array, places: np.ndarray) -> Array:
    """x [B, T, C] as [B * W, N, C]: the tokens of each window."""
    return x[:, places.ravel()].reshape(-1, places.shape[1], x.shape[-1])


def _of_items(mask: Array | np.ndarray | None, batch: int) -> Array | None:
    """bool[B, 1, N, N], the mask of each item: item b has row b % M of a mask [M, 1, N, N]."""
    if mask is None:
        return None
    return jnp.broadcast_to(jnp.asarray(mask), (batch // len(mask), *mask.shape)).reshape(batch, *mask.shape[1:])


def _cudnn_attention(q: Array, k: Array, v: Array, heads: int) -> Array:
    batch, tokens, _ = q.shape
    lengths = None
    if tokens % 2:  # jax 0.10 to 0.12 refuse to train on odd lengths: one more token, of which the lengths warn
        lengths = jnp.full(batch, tokens, jnp.int32)
        q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (q, k, v))
    parts = _heads(q, heads), _heads(k, heads), _heads(v, heads)
    y = jax.nn.dot_product_attention(
        *parts, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation="cudnn"
    )
    return y.reshape(q.shape)[:, :tokens]


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:2], heads, -1)


def rotate(x: Array, heads: int, grid: tuple[int, int]) -> Array:
    """Queries or keys x [B, N, C], rotated by the places of their patches, the last rows x columns = `grid` tokens.

    Rotary positions on two axes as in DINOv3 (Siméoni et al. 2025): rows and columns lie in [-1, 1] whatever the size
    of the image. Each turns a quarter of a head's channels, in pairs with the other half, with periods from 1 to 100.
    """
    batch, tokens, channels = x.shape
    quarter = channels // heads // 4
    places = [(2 * np.arange(side) + 1) / side - 1 for side in grid]
    places = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    angles = 2 * np.pi * places / 100 ** (np.arange(quarter) / quarter)[None, None]
    angles = np.pad(angles.reshape(-1, 2 * quarter), ((tokens - grid[0] * grid[1], 0), (0, 0)))
    cos, sin = (jnp.asarray(f(angles), jnp.float32)[None, :, None] for f in (np.cos, np.sin))
    a, b = jnp.split(x.astype(jnp.float32).reshape(batch, tokens, heads, 4 * quarter), 2, axis=-1)
    y = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return y.reshape(x.shape).astype(x.dtype)


def _weights(q: Array, k: Array, heads: int, bias: Array | None, mask: Array | np.ndarray | None) -> Array:
    """f32[B, heads, N, N], what `attention` weighs values by and does not give."""
    q, k = _heads(q, heads), _heads(k, heads)
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k, preferred_element_type=jnp.float32) / q.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias
    return jax.nn.softmax(logits, axis=-1, where=_of_items(mask, len(q)))


FeedForwardKind = Literal["gelu", "gelu_tanh", "swiglu"]
TextFeedForwardKind = Literal["gelu", "gelu_tanh", "gelu_sigmoid"]


class FeedForward(nn.Module):
    """Two layers with GELU between them, or with a gate (SwiGLU, Shazeer 2020)."""

    hidden: int
    kind: FeedForwardKind | TextFeedForwardKind = "gelu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; returns the same shape. Raises UserError if the kind is unknown."""
        if self.kind not in ("swiglu", *_ACTIVATIONS):
            raise UserError(f"feed_forward={self.kind} is unknown: choose one of {', '.join(_ACTIVATIONS)} or swiglu")
        y = Dense(self.hidden, name="linear1")(x)
        gated = self.kind == "swiglu"
        y = y * nn.silu(Dense(self.hidden, name="gate")(x)) if gated else _ACTIVATIONS[self.kind](y)
        return Dense(x.shape[-1], name="linear2")(y)


def gelu(x: Array) -> Array:
    """x times the normal distribution's share below x, exactly, of the type of x.

    Through erf in float32: `jax.nn.gelu` takes erfc, which has two branches and in bfloat16 is rounded within.
    """
    y = x.astype(jnp.float32)
    return (y * (0.5 + 0.5 * lax.erf(y * 0.5**0.5))).astype(x.dtype)


_TURNS = 64  # masks that are written into a program
_ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "gelu_sigmoid": lambda x: x * nn.sigmoid(1.702 * x),
}


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


def check_sizes(**sizes: int | None) -> None:
    """Raises UserError if a field's value is below 1; None stands for a default."""
    for field, value in sizes.items():
        if value is not None and value < 1:
            raise UserError(f"{field}={value} is too small: it must be at least 1")
