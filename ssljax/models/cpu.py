"""Fast forms for CPUs of the operations in `ssljax.models.layers`, where XLA's own are slow there.

Each equals the plain one in value and gradient up to rounding (and, in the maximum, up to ties).
"""

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.sharding import one_cpu
from ssljax.types import Array

_WIDE = 64  # channels; with fewer, rearranging costs more than it saves


def max_pool(x: Array) -> Array:
    """As `layers.max_pool`, but tied entries share the gradient.

    The gradient of reduce_window, select-and-scatter, is a naive loop on CPUs.
    """
    for axis in (1, 2):
        out = (x.shape[axis] + 1) // 2
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads, constant_values=-jnp.inf)
        first, second, third = (lax.slice_in_dim(padded, i, i + 2 * out - 1, 2, axis) for i in range(3))
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x


def dense(x: Array, kernel: Array, result: jnp.dtype = jnp.float32) -> Array:
    """As `layers.dense`."""
    y = _dense(x.reshape(-1, x.shape[-1]), kernel)
    return y.astype(result).reshape(*x.shape[:-1], -1)


def _dot(x: Array, y: Array) -> Array:
    # A float32 result is what lets a product of bfloat16 matrices use the matrix units of CPUs.
    return jnp.dot(x, y, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _dense(x: Array, kernel: Array) -> Array:
    return _dot(x, kernel)


def _dense_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    g = g.astype(x.dtype)
    return _dot(g, kernel.T).astype(x.dtype), _dot(_transposed(x), g).astype(kernel.dtype)


_dense.defvjp(lambda x, kernel: (_dense(x, kernel), (x, kernel)), _dense_backward)


def _transposed(x: Array) -> Array:
    # The barrier keeps XLA from folding the transpose into a product that takes twice the time, and in bfloat16 misses
    # the matrix units.
    return lax.optimization_barrier(x.astype(jnp.float32).T).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def repeat(x: Array, shape: tuple[int, ...]) -> Array:
    """As `layers.repeat`; its gradient, sums over columns, is slow as a reduction."""
    return jnp.broadcast_to(x, shape)


def _repeat_backward(shape: tuple[int, ...], x: Array, g: Array) -> tuple[Array]:
    return (_column_sums(g.reshape(-1, x.size)).reshape(x.shape).astype(x.dtype),)


repeat.defvjp(lambda x, shape: (repeat(x, shape), x), _repeat_backward)


def _column_sums(x: Array) -> Array:
    return _dot(jnp.ones((1, x.shape[0]), x.dtype), x)[0]


Pads = tuple[tuple[int, int], tuple[int, int]]
"""rows of zeros above and below a map, and columns left and right"""


def conv(x: Array, kernel: Array, stride: int = 1, pads: Pads | None = None) -> Array:
    """As `layers.conv`."""
    pad = kernel.shape[0] // 2
    pads = pads or ((pad, pad), (pad, pad))
    return (_depthwise if kernel.shape[2] < x.shape[3] else _conv)(x, kernel, stride, pads)


# XLA's grouped convolution is a naive loop on CPUs; a sum of shifted products is one fused loop.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    size = kernel.shape[0]
    weights = kernel.astype(jnp.float32).reshape(size * size, 1, 1, 1, -1)
    products = (x * w for x, w in zip(_shifts(x, size, stride, pads), weights, strict=True))
    return reduce(jnp.add, products).astype(x.dtype)


def _depthwise_backward(stride: int, pads: Pads, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, height, width, channels = x.shape
    size = kernel.shape[0]
    # The transpose is the convolution of g, with zeros between where outputs were left out, with the turned kernel.
    edges = [(0, 0, 0)]
    for n, m, (before, _) in zip((height, width), g.shape[1:3], pads, strict=True):
        first = size // 2 - before
        edges.append((first, n - 1 - stride * (m - 1) - first, stride - 1))
    dx = conv(lax.pad(g, jnp.zeros((), g.dtype), (*edges, (0, 0, 0))), kernel[::-1, ::-1])
    products = (shifted * g.astype(jnp.float32) for shifted in _shifts(x, size, stride, pads))
    dk = jnp.stack([_column_sums(product.reshape(-1, channels)) for product in products])
    return dx, dk.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(lambda x, kernel, *how: (_depthwise(x, kernel, *how), (x, kernel)), _depthwise_backward)


def _shifts(x: Array, size: int, stride: int, pads: Pads) -> list[Array]:
    """What each place of a kernel sees: size^2 arrays f32[B, ceil(H / stride), ceil(W / stride), C], row by row."""
    _, height, width, _ = x.shape
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))
    return [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    if _suits_winograd(kernel, stride):
        return _winograd(x, kernel)
    return _direct(x, kernel, stride, pads)


def _conv_backward(stride: int, pads: Pads, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if _suits_winograd(kernel, stride):
        return _winograd(g, kernel, transposed=True), _winograd_kernel_gradient(x, g).astype(kernel.dtype)
    (dx,) = jax.linear_transpose(lambda x: _direct(x, kernel, stride, pads), x)(g)
    size, _, channels, features = kernel.shape
    if size > 1 and channels < _WIDE:
        (dk,) = jax.linear_transpose(lambda kernel: _direct(x, kernel, stride, pads), kernel)(g)
        return dx, dk
    patches = _patches(x.astype(jnp.float32), size, stride, pads)  # as a convolution this would transpose both operands
    dk = _dot(_transposed(patches.reshape(-1, patches.shape[-1])).astype(x.dtype), g.reshape(-1, features))
    return dx, dk.reshape(kernel.shape).astype(kernel.dtype)


_conv.defvjp(lambda x, kernel, *how: (_conv(x, kernel, *how), (x, kernel)), _conv_backward)


def _direct(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    size, _, _, features = kernel.shape
    _, height, width, _ = x.shape
    outputs = -(-height // stride) * -(-width // stride)
    if size > 1 and size * size <= outputs:
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    # On maps smaller than the kernel XLA swaps the two and falls to a naive loop.
    patches = _patches(x, size, stride, pads)
    y = _dot(patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, features))
    return y.reshape(*patches.shape[:3], features).astype(x.dtype)


def _patches(x: Array, size: int, stride: int, pads: Pads) -> Array:
    """What each output of a convolution sees: [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), size^2 C]."""
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    columns = [x[:, :, i : i + width : stride] for i in range(size)]
    x = jnp.concatenate(columns, axis=3)
    return jnp.concatenate([x[:, i : i + height : stride] for i in range(size)], axis=3)


# Winograd's F(2x2, 3x3) (Lavin & Gray 2016, section 4.1): 16 products give 2x2 outputs of a 3x3 convolution, which
# takes 36 directly. In one dimension, with d four inputs, w three weights and y two outputs,
#     y = A^T [(G w) * (B^T d)]
#     B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
#     G w   = (w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2)
#     A^T m = (m0 + m1 + m2, m1 - m2 - m3)
# and in two each is applied along both axes. The sum over the channels stays a matrix product, one for each of the 16.
# It is bilinear, so the kernel's gradient is G^T [sum over tiles of (B^T d) * (A g)].


_CACHED = 2**19  # numbers of x that are convolved at a time: their tiles, four times as many, stay in the cache


def _suits_winograd(kernel: Array, stride: int) -> bool:
    return stride == 1 and kernel.shape[0] == 3 and kernel.shape[2] >= _WIDE


def _winograd(x: Array, kernel: Array, transposed: bool = False) -> Array:
    """The convolution with stride 1 of x [B, H, W, C] and kernel [3, 3, C, F], or its transpose, from F to C."""
    batch, height, width, _ = x.shape
    if transposed:
        kernel = kernel[::-1, ::-1]
    weights = [w.astype(x.dtype) for rows in _g(kernel.astype(jnp.float32)) for w in _g(rows)]
    contract = (((1,), (1 if transposed else 0,)), ((), ()))

    def part(x: Array) -> Array:
        tiles = _tiles(x, 1, 2)
        m = [
            lax.dot_general(d.reshape(-1, d.shape[-1]), w, contract, preferred_element_type=jnp.float32)
            for d, w in zip(tiles, weights, strict=True)
        ]
        m = [product.reshape(*tiles[0].shape[:3], -1) for product in m]
        rows = [_a_transposed(m[4 * i : 4 * i + 4]) for i in range(4)]
        y = [jnp.stack(_a_transposed(column), axis=2) for column in zip(*rows, strict=True)]  # [B, H / 2, 2, W / 2, F]
        y = jnp.stack(y, axis=4)
        return y.reshape(len(x), 2 * y.shape[1], 2 * y.shape[3], -1)[:, :height, :width].astype(x.dtype)

    if not one_cpu():  # each device holds a part of the batch, which a loop would gather
        return part(x)
    most = max(1, _CACHED // (height * width * x.shape[3]))
    images = max(n for n in range(1, min(batch, most) + 1) if batch % n == 0)
    y = lax.map(part, x.reshape(-1, images, *x.shape[1:])) if images < batch else part(x)
    return y.reshape(batch, height, width, -1)


def _winograd_kernel_gradient(x: Array, g: Array) -> Array:
    """f32[3, 3, C, F], from the inputs x [B, H, W, C] and the gradient of the outputs g [B, H, W, F]."""
    _, height, width, _ = g.shape
    padded = jnp.pad(g.astype(jnp.float32), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    right = [u.astype(g.dtype).reshape(-1, u.shape[3]) for rows in _a(padded, 1) for u in _a(rows, 2)]
    # The channels come first before the tiles are made, as the product wants its left factor; the barrier keeps it so.
    channels_first = lax.optimization_barrier(x.astype(jnp.float32).transpose(3, 0, 1, 2)).astype(x.dtype)
    left = [d.reshape(d.shape[0], -1) for d in _tiles(channels_first, 2, 3)]
    m = [_dot(d, u) for d, u in zip(left, right, strict=True)]
    rows = [_g_transposed(m[4 * i : 4 * i + 4]) for i in range(4)]
    return jnp.stack([jnp.stack(_g_transposed(column)) for column in zip(*rows, strict=True)], axis=1)


def _tiles(x: Array, height: int, width: int) -> list[Array]:
    """B^T d B of each tile of 4x4, at distances of 2, along the axes `height` and `width`: 16 arrays, row by row."""
    pads = [(0, 0)] * 4
    pads[height], pads[width] = ((1, 1 + x.shape[axis] % 2) for axis in (height, width))
    padded = jnp.pad(x.astype(jnp.float32), pads)
    return [d.astype(x.dtype) for rows in _b_transposed(padded, height) for d in _b_transposed(rows, width)]


def _b_transposed(x: Array, axis: int) -> tuple[Array, ...]:
    d0, d1, d2, d3 = (lax.slice_in_dim(x, i, i + x.shape[axis] - 3, 2, axis) for i in range(4))
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _g(w: Array) -> tuple[Array, ...]:
    return w[0], (w[0] + w[1] + w[2]) / 2, (w[0] - w[1] + w[2]) / 2, w[2]


def _g_transposed(m: Sequence[Array]) -> tuple[Array, ...]:
    return m[0] + (m[1] + m[2]) / 2, (m[1] - m[2]) / 2, (m[1] + m[2]) / 2 + m[3]


def _a(y: Array, axis: int) -> tuple[Array, ...]:
    y0, y1 = (lax.slice_in_dim(y, i, None, 2, axis) for i in range(2))
    return y0, y0 + y1, y0 - y1, -y1


def _a_transposed(m: Sequence[Array]) -> tuple[Array, ...]:
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]
