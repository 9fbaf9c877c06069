"""Fast forms for TPUs of the operations in `ssljax.models.layers`, where XLA's own are slow there.

Each equals the plain one in value and gradient up to rounding.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ssljax.types import Array

SUM = "sum_by_product"  # the scope of a product that stands for a sum, and is no arithmetic of a network
_LANES = 128  # of a vector register: the unit in which a TPU reads channels
_TOKENS = 800  # more, and the weights of a head and their gradients no longer fit into the vector memory
_WIDEST = 2 * _LANES  # channels that are read at a time where _LANES does not divide them: 448 compile for 79 s
_ELEMENTS = 2**17  # of an image's part of q, k or v: the backward pass has some forty bytes for each
_UNROLLED = 2**11  # heads that are read at a time, by tokens: the kernel is written out for each, and compiles as long
_BLOCK = 1024  # tokens, about, of the images that are read at a time: a step of the grid costs .35 us in any case
_ROWS = 16  # of bfloat16 in a register: windows begin at a multiple
_TOGETHER = 256  # rows of small images or windows whose instructions are mixed, so that units wait less
_HIDDEN = -1e9  # a logit of which nothing remains
_MEMORY = 48 * 2**20  # bytes of the vector memory for windows; XLA keeps other arrays in what is left of it


def suits_attention(x: Any, heads: int, windows: int = 1) -> bool:
    """Whether `attention` can stand in for the plain one: q, k and v are like x [B, T, C], of so many windows each."""
    _, tokens, channels = x.shape
    head, lanes, own = channels // heads, _lanes(channels), tokens // windows
    fits = tokens <= _TOKENS and lanes <= _WIDEST and lanes * own <= _ELEMENTS
    return x.dtype == jnp.bfloat16 and fits and _LANES % head == 0 and lanes // head * own <= _UNROLLED


def _lanes(channels: int) -> int:
    """How many channels are read at a time: whole heads that fill a register, or else all."""
    return _LANES if channels % _LANES == 0 else channels


class _More(NamedTuple):
    """What an attention may have besides queries, keys and values."""

    bias: Array | None
    """f32[groups of heads, stacks of a group, N keys, heads of a stack * N queries]"""
    mask: Array | None
    """bf16[M, N keys, heads of a stack * N queries], added to the logits of window i, i + M, ..."""
    moves: Array | None
    """bf16[windows * N, T] of rows with a one each: times an image's tokens, those of one window after the other"""


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None = None,
    *,
    heads: int,
    mask: np.ndarray | None = None,
    places: np.ndarray | None = None,
) -> Array:
    """As `layers.attention`, in one kernel: the weights [N, N] of a head never leave the chip's vector memory.

    q, k, v: bf16[B, T, C], and so is the result; bias: f32[heads, N, N]; mask: bool[M, N, N]; places: i64[W, N].

    They stay in the layout of the projections, a head beside the other: a head is picked by zeros in the other lanes of
    its register, so that nothing is moved or padded. The queries of short sequences share the lanes of the weights. The
    tokens of windows are brought together by a product with ones and zeros, which takes less time than to move them in
    the chip's main memory. The backward pass computes windows and weights again.
    """
    windows, tokens, rows, moves = 1, q.shape[1], q.shape[1], None
    if places is not None:
        windows, tokens = places.shape
        rows = -(-tokens // _ROWS) * _ROWS
        moves = np.zeros((windows, rows, q.shape[1]), np.float32)
        moves[np.arange(windows)[:, None], np.arange(tokens), places] = 1
        moves = jnp.asarray(moves.reshape(-1, q.shape[1]), q.dtype)
    lanes, missing = _lanes(q.shape[-1]), rows - tokens
    stacks = _stacks(rows, lanes, q.shape[-1] // heads)
    beside = len(stacks[0])
    if bias is None and missing:
        bias = jnp.zeros((heads, tokens, tokens), jnp.float32)
    if bias is not None:
        bias = jnp.pad(bias, ((0, 0), (0, missing), (0, 0)))
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, missing)), constant_values=_HIDDEN)
        bias = bias.reshape(q.shape[-1] // lanes, -1, rows, rows)
        bias = jnp.pad(bias, ((0, 0), (0, len(stacks) * beside - bias.shape[1]), (0, 0), (0, 0)))
        bias = bias.reshape(len(bias), len(stacks), beside * rows, rows).swapaxes(2, 3)
    hidden = None
    if mask is not None:
        at_a_time = _images(*q.shape[:2]) * windows
        mask = np.pad(mask, ((0, 0), (0, missing), (0, missing)), constant_values=True)
        mask = np.tile(mask, (at_a_time // math.gcd(at_a_time, len(mask)), beside, 1)).swapaxes(1, 2)
        hidden = jnp.asarray(np.where(mask, 0, _HIDDEN), q.dtype)
    return _attention(q, k, v, _More(bias, hidden, moves), heads, windows)


def _images(batch: int, tokens: int) -> int:
    """How many images are read at a time."""
    return math.gcd(batch, 2 ** max(0, (_BLOCK // tokens).bit_length() - 1))


def _stacks(rows: int, lanes: int, head: int) -> list[list[slice]]:
    """The lanes of each head, those together whose queries lie beside each other in the lanes of the weights."""
    own = [slice(start, start + head) for start in range(0, lanes, head)]
    beside = max(1, min(_LANES // rows, len(own)))
    own += [slice(0, 0)] * (-len(own) % beside)  # a head without channels
    return [own[i : i + beside] for i in range(0, len(own), beside)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attention(q: Array, k: Array, v: Array, more: _More, heads: int, windows: int) -> Any:
    return _over_images(_forward, heads, windows, more, 1, 2, q, k, v)[0]


def _attention_backward(heads: int, windows: int, saved: tuple, g: Array) -> tuple[Any, ...]:
    q, k, v, more = saved
    *gradients, bias = _over_images(_backward, heads, windows, more, 3, 5, q, k, v, g)
    return *gradients, jax.tree.map(jnp.zeros_like, more)._replace(bias=bias)


_attention.defvjp(lambda *args: (_attention(*args), args[:4]), _attention_backward)


def _over_images(
    kernel: Callable, heads: int, windows: int, more: _More, results: int, products: int, *xs: Array
) -> list[Array | None]:
    """Runs `kernel` on each window of each image, and each group of heads that fill a register.

    xs: bf16[B, T, C] each, as are the `results` arrays that it returns, and after them the bias's gradient or None;
    `products` is their number, for the estimate, which leaves out those that move tokens.
    """
    batch, tokens, channels = xs[0].shape
    rows = tokens if more.moves is None else len(more.moves) // windows
    lanes, images = _lanes(channels), _images(batch, tokens)
    stacks = _stacks(rows, lanes, channels // heads)
    turns = 1 if more.mask is None else len(more.mask) // windows // images
    together = 2 ** max(0, (_TOGETHER // rows).bit_length() - 1)
    learns = more.bias is not None and kernel is _backward

    def block(*refs: Any) -> None:
        rest = iter(refs)
        ins = [next(rest) for _ in xs]
        bias, mask, moves, back = (x if x is None else next(rest) for x in (*more, more.moves))
        outs = [next(rest) for _ in range(results)]
        bias_gradient = next(rest) if learns else None
        moved = list(rest)

        if bias_gradient is not None:

            @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
            def _() -> None:
                bias_gradient[...] = jnp.zeros(bias_gradient.shape, bias_gradient.dtype)

        def window(n: Array, sources: list, goals: list) -> None:
            added = [0.0 if bias is None else bias[0, i] for i in range(len(stacks))]
            if mask is not None:
                hidden = mask[n].astype(jnp.float32)
                added = [one + hidden for one in added]
            values, logits_gradients = kernel(stacks, (channels // heads) ** -0.5, added, *(x[...] for x in sources))
            for goal, value in zip(goals, values, strict=True):
                goal[...] = value.astype(goal.dtype)
            if bias_gradient is not None:
                for i, gradient in enumerate(logits_gradients):
                    bias_gradient[0, i] += gradient

        def image(i: Array, _: None) -> None:
            sources, goals = [ref.at[i] for ref in ins], [ref.at[i] for ref in outs]
            if moves is None or back is None:
                return window(i, sources, goals)
            for x, source in zip(moved, sources, strict=True):
                x[...] = _dot(moves[...], source[...]).astype(x.dtype)

            def of_image(w: Array, _: None) -> None:
                own = [x.at[pl.ds(pl.multiple_of(w * rows, rows), rows)] for x in moved]
                window(i * windows + w, own, own[:results])

            lax.fori_loop(0, windows, of_image, None, unroll=math.gcd(windows, together))
            for x, goal in zip(moved, goals, strict=False):
                goal[...] = _dot(back[...], x[...]).astype(goal.dtype)

        lax.fori_loop(0, images, image, None, unroll=math.gcd(images, max(1, together // windows)))

    def whole(x: Array) -> pl.BlockSpec:
        return pl.BlockSpec(x.shape, lambda g, turn, i: (0,) * x.ndim)

    spec = pl.BlockSpec((images, tokens, lanes), lambda g, turn, i: (i * turns + turn, 0, g))
    ins, outs, shapes = [spec] * len(xs), [spec] * results, [jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)] * results
    if more.bias is not None:
        ins.append(pl.BlockSpec((1, *more.bias.shape[1:]), lambda g, turn, i: (g, 0, 0, 0)))
        outs += ins[-1:] * learns
        shapes += [jax.ShapeDtypeStruct(more.bias.shape, more.bias.dtype)] * learns
    if more.mask is not None:
        ins.append(pl.BlockSpec((images * windows, *more.mask.shape[1:]), lambda g, turn, i: (turn, 0, 0)))
    moves = [] if more.moves is None else [more.moves, more.moves.T]
    found = pl.pallas_call(
        block,
        grid=(channels // lanes, turns, batch // images // turns),
        in_specs=ins + [whole(x) for x in moves],
        out_specs=outs,
        out_shape=shapes,
        scratch_shapes=[pltpu.VMEM((windows * rows, lanes), x.dtype) for x in xs] if moves else [],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_MEMORY) if moves else None,
        cost_estimate=pl.CostEstimate(
            flops=2 * products * xs[0].size * (tokens // windows),
            transcendentals=heads * batch * tokens * (tokens // windows),
            bytes_accessed=(len(xs) + results) * xs[0].nbytes,
        ),
    )(*xs, *(x for x in more[:2] if x is not None), *moves)
    return found if learns else [*found, None]


def _stacked(stack: list[slice], x: Array) -> Array:
    """x [N, lanes] once for each head of a stack, with zeros in the lanes of others: [heads * N, lanes]."""
    parts = [jnp.where(_within(lanes, (1, x.shape[1])), x, 0) for lanes in stack]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=0)


def _of_own(stack: list[slice], x: Array, total: Array) -> Array:
    """total [lanes, heads * N] with the rows of each head from the same head's columns of x."""
    rows, columns = total.shape[0], total.shape[1] // len(stack)
    for i, lanes in enumerate(stack):
        own = _within(lanes, (rows, 1))
        if len(stack) > 1:
            own &= _within(slice(i * columns, (i + 1) * columns), (1, total.shape[1]))
        total = jnp.where(own, x, total)
    return total


def _unstacked(stacks: list[list[slice]], total: Array) -> Array:
    """What `_of_own` has put together of all stacks, as [N, lanes]."""
    total = total.T
    n = total.shape[0] // len(stacks[0])
    out = total[:n]
    for i in range(1, len(stacks[0])):
        for stack in stacks:
            out = jnp.where(_within(stack[i], (1, out.shape[1])), total[i * n : (i + 1) * n], out)
    return out


# Both kernels keep the weights as [keys, queries]: a sum over the keys then adds registers, and not lanes of one.
def _forward(stacks: list[list[slice]], scale: float, added: list, q: Array, k: Array, v: Array) -> tuple:
    out, v_transposed = jnp.zeros((q.shape[1], len(stacks[0]) * q.shape[0]), jnp.float32), v.T
    for stack, more in zip(stacks, added, strict=True):
        e, norm = _exponentials(_stacked(stack, q * scale), k, more)
        out = _of_own(stack, _dot(v_transposed, e.astype(v.dtype)) * norm, out)
    return [_unstacked(stacks, out)], []


def _backward(stacks: list[list[slice]], scale: float, added: list, q: Array, k: Array, v: Array, g: Array) -> tuple:
    dk = dv = jnp.zeros(q.shape, jnp.float32)
    dq, k_transposed = jnp.zeros((q.shape[1], len(stacks[0]) * q.shape[0]), jnp.float32), k.T
    gradients = []
    for stack, more in zip(stacks, added, strict=True):
        q_own, g_own = _stacked(stack, q * scale), _stacked(stack, g)
        e, norm = _exponentials(q_own, k, more)
        p, dp = e * norm, _dot(v, g_own, 1)
        gradients.append(p * (dp - (p * dp).sum(axis=0, keepdims=True)))
        ds = gradients[-1].astype(q.dtype)
        dq = _of_own(stack, _dot(k_transposed, ds), dq)
        dk += _dot(ds, q_own)
        dv += _dot(p.astype(g.dtype), g_own)
    return [scale * _unstacked(stacks, dq), dk, dv], gradients


def suits_plus(x: Array, kernel: Array) -> bool:
    """Whether `plus` pays for x @ kernel: else XLA chooses layouts for its products that cost more than it saves."""
    return x.dtype == jnp.bfloat16 and not any(size % _LANES for size in kernel.shape)


@jax.custom_vjp
def plus(x: Array, bias: Array) -> Array:
    """x bf16[..., C] + bias f32[C], of the type of x; the bias's gradient is a product with ones, in float32.

    XLA's own sum over the rows takes ten times as long.
    """
    return x + jnp.broadcast_to(bias.astype(x.dtype), x.shape)


@jax.named_scope(SUM)
def _plus_backward(_: None, g: Array) -> tuple[Array, Array]:
    rows = tuple(range(g.ndim - 1))
    ones = jnp.ones((8, *g.shape[:-1]), g.dtype)  # of one row XLA would make a sum again
    dimensions = (tuple(row + 1 for row in rows), rows), ((), ())
    return g, lax.dot_general(ones, g, dimensions, lax.Precision.DEFAULT, preferred_element_type=jnp.float32)[0]


plus.defvjp(lambda x, bias: (plus(x, bias), None), _plus_backward)


def _within(lanes: slice, shape: tuple[int, int]) -> Array:
    place = lax.broadcasted_iota(jnp.int32, shape, shape.index(max(shape)))
    return (place >= lanes.start) & (place < lanes.stop)


def _exponentials(q: Array, k: Array, added: Any) -> tuple[Array, Array]:
    """f32[N keys, N queries], what each token takes of each, before it is multiplied by f32[1, N]."""
    logits = _dot(k, q, 1) + added
    e = jnp.exp(logits - logits.max(axis=0, keepdims=True))
    return e, 1 / e.sum(axis=0, keepdims=True)


def _dot(x: Array, y: Array, y_axis: int = 0) -> Array:
    # Products of bfloat16 are exact in any precision, but the kernel's compiler refuses the run's if that is float32.
    dimensions = ((1,), (y_axis,)), ((), ())
    return lax.dot_general(x, y, dimensions, lax.Precision.DEFAULT, preferred_element_type=jnp.float32)
