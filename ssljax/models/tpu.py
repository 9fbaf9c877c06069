"""Fast forms for TPUs of the operations in `ssljax.models.layers`, where XLA's own are slow there.

Each equals the plain one in value and gradient up to rounding.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from ssljax.types import Array

_LANES = 128  # of a vector register: the unit in which a TPU reads channels
_TOKENS = 800  # more, and the weights of a head and their gradients no longer fit into the vector memory
_WIDEST = 2 * _LANES  # channels that are read at a time where _LANES does not divide them: 448 compile for 79 s
_ELEMENTS = 2**17  # of an image's part of q, k or v: the backward pass has some forty bytes for each
_UNROLLED = 2**11  # heads that are read at a time, by tokens: the kernel is written out for each, and compiles as long
_BLOCK = 1024  # tokens, about, of the images that are read at a time: a step of the grid costs .35 us in any case


def suits_attention(x: Array, heads: int) -> bool:
    """Whether `attention` can stand in for the plain one: q, k and v are like x [B, N, C]."""
    _, tokens, channels = x.shape
    head, lanes = channels // heads, _lanes(channels)
    fits = tokens <= _TOKENS and lanes <= _WIDEST and lanes * tokens <= _ELEMENTS
    return x.dtype == jnp.bfloat16 and fits and _LANES % head == 0 and lanes // head * tokens <= _UNROLLED


def _lanes(channels: int) -> int:
    """How many channels are read at a time: whole heads that fill a register, or else all."""
    return _LANES if channels % _LANES == 0 else channels


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attention(q: Array, k: Array, v: Array, heads: int) -> Array:
    """As `layers.attention`, in one kernel: the weights [N, N] of a head never leave the chip's vector memory.

    q, k, v: bf16[B, N, C], and so is the result. They stay in the layout of the projections, a head beside the other:
    a head is picked by zeros in the other lanes of its register, so that nothing is moved or padded. The backward pass
    computes the weights again.
    """
    return _over_images(_forward, heads, 1, 2, q, k, v)[0]


def _attention_backward(heads: int, saved: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
    return tuple(_over_images(_backward, heads, 3, 5, *saved, g))


attention.defvjp(lambda q, k, v, heads: (attention(q, k, v, heads), (q, k, v)), _attention_backward)


def _over_images(kernel: Callable, heads: int, results: int, products: int, *xs: Array) -> list[Array]:
    """Runs `kernel` on each image and each group of heads that fill a register.

    xs: bf16[B, N, C] each, as are the `results` arrays that it returns; `products` is their number, for the estimate.
    """
    batch, tokens, channels = xs[0].shape
    head = channels // heads
    lanes = _lanes(channels)
    own = [slice(start, start + head) for start in range(0, lanes, head)]

    def block(*refs: Any) -> None:
        def image(i: Array, _: None) -> None:
            outs = kernel(own, head**-0.5, *(ref[i] for ref in refs[: len(xs)]))
            for ref, out in zip(refs[len(xs) :], outs, strict=True):
                ref[i] = out.astype(ref.dtype)

        lax.fori_loop(0, images, image, None)

    images = math.gcd(batch, 2 ** max(0, (_BLOCK // tokens).bit_length() - 1))
    spec = pl.BlockSpec((images, tokens, lanes), lambda i, j: (i, 0, j))
    return pl.pallas_call(
        block,
        grid=(batch // images, channels // lanes),
        in_specs=[spec] * len(xs),
        out_specs=[spec] * results,
        out_shape=[jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)] * results,
        cost_estimate=pl.CostEstimate(
            flops=2 * products * xs[0].size * tokens,
            transcendentals=heads * batch * tokens**2,
            bytes_accessed=(len(xs) + results) * xs[0].nbytes,
        ),
    )(*xs)


# Both kernels keep the weights as [keys, queries]: a sum over the keys then adds registers, and not lanes of one.
def _forward(own_lanes: list[slice], scale: float, q: Array, k: Array, v: Array) -> list[Array]:
    out, v_transposed = jnp.zeros(q.shape[::-1], jnp.float32), v.T
    for lanes in own_lanes:
        own, row = _within(lanes, (1, q.shape[1])), _within(lanes, (q.shape[1], 1))
        e, norm = _exponentials(jnp.where(own, q * scale, 0), k)
        out = jnp.where(row, _dot(v_transposed, e.astype(v.dtype)) * norm, out)
    return [out.T]


def _backward(own_lanes: list[slice], scale: float, q: Array, k: Array, v: Array, g: Array) -> list[Array]:
    dk = dv = jnp.zeros(q.shape, jnp.float32)
    dq, k_transposed = jnp.zeros(q.shape[::-1], jnp.float32), k.T
    for lanes in own_lanes:
        own, row = _within(lanes, (1, q.shape[1])), _within(lanes, (q.shape[1], 1))
        q_own, g_own = jnp.where(own, q * scale, 0), jnp.where(own, g, 0)
        e, norm = _exponentials(q_own, k)
        p, dp = e * norm, _dot(v, g_own, 1)
        ds = (p * (dp - (p * dp).sum(axis=0, keepdims=True))).astype(q.dtype)
        dq = jnp.where(row, _dot(k_transposed, ds), dq)
        dk += _dot(ds, q_own)
        dv += _dot(p.astype(g.dtype), g_own)
    return [scale * dq.T, dk, dv]


def _within(lanes: slice, shape: tuple[int, int]) -> Array:
    place = lax.broadcasted_iota(jnp.int32, shape, shape.index(max(shape)))
    return (place >= lanes.start) & (place < lanes.stop)


def _exponentials(q: Array, k: Array) -> tuple[Array, Array]:
    """f32[N keys, N queries], what each token takes of each, before it is multiplied by f32[1, N]."""
    logits = _dot(k, q, 1)
    e = jnp.exp(logits - logits.max(axis=0, keepdims=True))
    return e, 1 / e.sum(axis=0, keepdims=True)


def _dot(x: Array, y: Array, y_axis: int = 0) -> Array:
    # Products of bfloat16 are exact in any precision, but the kernel's compiler refuses the run's if that is float32.
    dimensions = ((1,), (y_axis,)), ((), ())
    return lax.dot_general(x, y, dimensions, lax.Precision.DEFAULT, preferred_element_type=jnp.float32)
