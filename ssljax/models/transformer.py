"""What vision transformers are made of: pre-norm blocks of attention and a feed-forward layer (Vaswani et al. 2017).

All arrays [..., C] are in float32 or bfloat16 and so are the results; parameters, means and variances are float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import ops
from ssljax.types import Array

truncated_normal = nn.initializers.truncated_normal(0.02)


class Dense(nn.Module):
    """x @ kernel + bias, with weights from a truncated normal of deviation .02 and a bias that starts at zero."""

    features: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; gives [..., features]."""
        kernel = self.param("kernel", truncated_normal, (x.shape[-1], self.features), jnp.float32)
        if not self.bias:
            return ops.dense(x, kernel.astype(x.dtype), x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return dense(x, kernel, bias)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """x [..., C] @ kernel f32[C, F] + bias f32[F], of the type of x."""
    y = ops.dense(x, kernel.astype(x.dtype), x.dtype)
    return y + ops.repeat(bias.astype(x.dtype), y.shape)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels (Ba et al. 2016)."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; gives the same."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        y = x.astype(jnp.float32)
        y = y - y.mean(axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.eps)
        return (y * ops.repeat(scale, y.shape) + ops.repeat(bias, y.shape)).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of tokens to each other."""

    heads: int

    @nn.compact
    def __call__(self, x: Array, bias: Array | None = None, mask: Array | None = None) -> Array:
        """x: [B, N, C]; gives the same.

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
        """x: [..., C]; gives the same."""
        y = nn.gelu(Dense(self.hidden, name="linear1")(x), approximate=False)
        return Dense(x.shape[-1], name="linear2")(y)


class LayerScale(nn.Module):
    """A learnt factor for each channel of a branch (Touvron et al. 2021, CaiT, eq. 5)."""

    initial: float | None  # None: no factor

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C]; gives the same."""
        if self.initial is None:
            return x
        scale = self.param("scale", nn.initializers.constant(self.initial), x.shape[-1:], jnp.float32)
        return x * ops.repeat(scale.astype(x.dtype), x.shape)
