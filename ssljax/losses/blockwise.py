"""Log-sum-exp and other sums over all pairs of rows and columns, without the matrix of their products.

The products x_ij = rows_i . columns_j are made a block at a time, reduced to one number a row, and made again in the
backward pass: memory grows with N + K, not with N x K. If y_i is the result and g_i its gradient, then with
w_ij = g_i dy_i/dx_ij the gradients are w @ columns and w.T @ rows, and dy/dx follows from x and y alone: exp(x - y) for
the log-sum-exp.

On many devices the rows go to each of them, and each takes its own columns, which stay where they are: a queue, class
weights, its part of the batch. What travels is the rows and their gradient, N x D each, and results, N.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ssljax.sharding import device_count, on_own_columns
from ssljax.types import Array

BLOCK = 2**20  # products in a block: 4 MiB, which stay in a processor's cache
MASKED = -1e30  # the log of nothing; finite, so that a row without any column has a gradient of 0, not NaN


def logsumexp_of_products(
    rows: Array,
    columns: Array,
    *,
    row_ids: Array | None = None,
    column_ids: Array | None = None,
    valid: Array | None = None,
) -> Array:
    """f32[N], log sum_j exp(rows_i . columns_j) over the columns that are valid and have another id than the row.

    rows: [N, D] and columns: [K, D] of the same type: float32, or bfloat16 for products in bfloat16; sums are in
    float32. A temperature belongs into the rows, so that it gets its gradient.
    row_ids: i32[N] and column_ids: i32[K], both or none, leave out pairs: an item with itself, its positive, its class.
    valid: bool[K], False for columns to leave out everywhere.

    A row without any column gives -1e30 and gets no gradient. Raises ValueError for shapes that do not fit.
    """
    return _pairs(_LOGSUMEXP, rows, columns, row_ids, column_ids, valid)


def sum_of_softplus(rows: Array, columns: Array, *, valid: Array | None = None) -> Array:
    """f32[N], sum_j log(1 + exp(rows_i . columns_j)) over the valid columns; arguments as `logsumexp_of_products`."""
    return _pairs(_SOFTPLUS, rows, columns, None, None, valid)


def softmax_mean(rows: Array, columns: Array, *, valid: Array | None = None) -> Array:
    """f32[N, D], the mean of the columns with weights softmax_j(rows_i . columns_j); without gradient.

    It is the gradient of the log-sum-exp by the rows. A cross-entropy against these weights needs no more than it:
    sum_j p_ij (x_i . columns_j) = x_i . (sum_j p_ij columns_j).
    """
    rows, columns = jax.lax.stop_gradient((rows, columns))
    return jax.grad(lambda r: jnp.sum(logsumexp_of_products(r, columns, valid=valid)))(rows).astype(jnp.float32)


def blocks(n: int, k: int) -> tuple[int, int]:
    """How many of `n` rows and of `k` columns make one block: all, if their products are no more than BLOCK."""
    height = min(n, max(math.isqrt(BLOCK), BLOCK // max(k, 1)))
    return height, min(k, max(BLOCK // max(height, 1), 1))


def cut(x: Array, index: Array, size: int) -> tuple[Array, Array | None]:
    """The `index`-th part of `size` along the first axis, and bool[size], what of it no earlier part had; None: all.

    Where `size` does not divide the length, the last part begins earlier: shapes are static, and nothing is padded.
    """
    if x.shape[0] % size == 0:
        return jax.lax.dynamic_slice_in_dim(x, index * size, size), None
    start = jnp.minimum(index * size, x.shape[0] - size)
    return jax.lax.dynamic_slice_in_dim(x, start, size), jnp.arange(size) + start >= index * size


@dataclasses.dataclass(frozen=True)
class _Reduction:
    """How products become one number a row."""

    start: float
    """The result of no column."""
    reduce: Callable[[Array, Array | None], Array]
    """Products f32[n, k] and which of them count (None: all) to f32[n]."""
    merge: Callable[[Array, Array], Array]
    """The results of two sets of columns to that of both."""
    merge_devices: Callable[[Array, tuple[str, ...]], Array]
    """The results of all devices' columns to that of all."""
    derivative: Callable[[Array, Array], Array]
    """Products f32[n, k] and results f32[n, 1] to f32[n, k], the derivative of a result by a product."""


def _logsumexp_over_devices(y: Array, axes: tuple[str, ...]) -> Array:
    largest = jax.lax.pmax(y, axes)
    return largest + jnp.log(jax.lax.psum(jnp.exp(y - largest), axes))


_LOGSUMEXP = _Reduction(
    start=MASKED,
    reduce=lambda x, counts: jax.nn.logsumexp(x if counts is None else jnp.where(counts, x, MASKED), axis=1),
    merge=jnp.logaddexp,
    merge_devices=_logsumexp_over_devices,
    derivative=lambda x, y: jnp.exp(x - y),
)
_SOFTPLUS = _Reduction(
    start=0.0,
    reduce=lambda x, counts: jnp.sum(jax.nn.softplus(x), axis=1, where=counts),
    merge=jnp.add,
    merge_devices=jax.lax.psum,
    derivative=lambda x, _: jax.nn.sigmoid(x),
)


def _pairs(reduction, rows, columns, row_ids, column_ids, valid):
    """Checks shapes, then reduces."""
    shapes = f"rows of shape {rows.shape} and columns of shape {columns.shape}"
    if rows.ndim != 2 or columns.ndim != 2 or rows.shape[1] != columns.shape[1]:
        raise ValueError(f"{shapes} should be [N, D] and [K, D]")
    for name, x, of in (("row_ids", row_ids, rows), ("column_ids", column_ids, columns), ("valid", valid, columns)):
        if x is not None and x.shape != of.shape[:1]:
            raise ValueError(f"{name} of shape {x.shape} does not fit {shapes}")
    if (row_ids is None) != (column_ids is None):
        raise ValueError("row_ids and column_ids go together: give both or none")
    if valid is None and columns.shape[0] % device_count():
        valid = jnp.ones(columns.shape[0], bool)  # the devices' parts are padded
    return _reduce(reduction, rows, columns, row_ids, column_ids, valid)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce(reduction, rows, columns, row_ids, column_ids, valid):
    return _forward(reduction, rows, columns, row_ids, column_ids, valid)[0]


def _forward(reduction, rows, columns, row_ids, column_ids, valid):
    def part(axes, rows, columns):
        y = _reduce_blocks(reduction, rows, columns)
        return (reduction.merge_devices(y, axes) if axes else y), ()

    saved = (rows, row_ids), (columns, column_ids, valid)
    y, _ = on_own_columns(part, *saved)
    return y, (*saved, y)


def _backward(reduction, saved, g):
    rows, columns, y = saved

    def part(axes, rows, columns):
        d_rows, d_columns = _gradient_blocks(reduction, *rows, columns)
        return (jax.lax.psum(d_rows, axes) if axes else d_rows), d_columns

    d_rows, d_columns = on_own_columns(part, (rows, y, g), columns)
    return d_rows.astype(rows[0].dtype), d_columns.astype(columns[0].dtype), None, None, None


_reduce.defvjp(_forward, _backward)


def _products(x: Array, y: Array, contract: tuple[int, int]) -> Array:
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


def _block(rows, columns, i, j, height, width):
    """Block (i, j): its rows, its columns, their products, and which count (None: all)."""
    (r, row_ids), (c, column_ids, valid) = rows, columns
    conditions = []
    x, fresh = cut(r, i, height)
    if fresh is not None:
        conditions.append(fresh[:, None])
    z, fresh = cut(c, j, width)
    if fresh is not None:
        conditions.append(fresh[None])
    if row_ids is not None:
        conditions.append(cut(row_ids, i, height)[0][:, None] != cut(column_ids, j, width)[0][None])
    if valid is not None:
        conditions.append(cut(valid, j, width)[0][None])
    counts = functools.reduce(jnp.logical_and, conditions) if conditions else None
    if counts is not None:
        counts = jnp.broadcast_to(counts, (height, width))
    return x, z, _products(x, z, (1, 1)), counts


def _reduce_blocks(reduction, rows, columns):
    n, k = rows[0].shape[0], columns[0].shape[0]
    height, width = blocks(n, k)
    across = -(-k // width)

    def step(t, y):
        i, j = t // across, t % across
        _, _, x, counts = _block(rows, columns, i, j, height, width)
        start = jnp.minimum(i * height, n - height)
        merged = reduction.merge(jax.lax.dynamic_slice_in_dim(y, start, height), reduction.reduce(x, counts))
        return jax.lax.dynamic_update_slice_in_dim(y, merged, start, 0)

    return jax.lax.fori_loop(0, -(-n // height) * across, step, jnp.full(n, reduction.start, jnp.float32))


def _gradient_blocks(reduction, rows, y, g, columns):
    (n, d), k = rows[0].shape, columns[0].shape[0]
    height, width = blocks(n, k)
    across = -(-k // width)

    def step(t, carry):
        d_rows, d_columns = carry
        i, j = t // across, t % across
        r, c, x, counts = _block(rows, columns, i, j, height, width)
        w = reduction.derivative(x, cut(y, i, height)[0][:, None]) * cut(g, i, height)[0][:, None]
        w = (w if counts is None else jnp.where(counts, w, 0)).astype(r.dtype)
        return (
            _add_at(d_rows, jnp.minimum(i * height, n - height), _products(w, c, (1, 0))),
            _add_at(d_columns, jnp.minimum(j * width, k - width), _products(w, r, (0, 0))),
        )

    zeros = jnp.zeros((n, d), jnp.float32), jnp.zeros((k, d), jnp.float32)
    return jax.lax.fori_loop(0, -(-n // height) * across, step, zeros)


def _add_at(total, start, part):
    part = part + jax.lax.dynamic_slice_in_dim(total, start, part.shape[0])
    return jax.lax.dynamic_update_slice_in_dim(total, part, start, 0)
