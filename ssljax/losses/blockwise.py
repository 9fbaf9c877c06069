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

from ssljax.sharding import device_count, on_own_share, target_platform
from ssljax.types import Array

BLOCK = 2**20  # products in a block on a CPU: 4 MiB, which stay in its cache
# Elsewhere 256 MiB: larger blocks are faster. Compiled for eight v5e chips, 2^18, 2^20, 2^22, 2^24 and 2^26 products
# take 1.9, .9, .8, .5 and .5 million cycles of SimCLR's loss of 8,192 rows, and .35, .22, .17, .17 and .17 of MoCo's
# with 256 rows and 65,536 keys. ArcFace of 512 rows and a million classes takes 26.6 with 2^24, in 646 MiB, and 19.2
# with 2^26, in 517; on H100, 397 MiB and 531.
ACCELERATOR_BLOCK = 2**26
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
    sides = _sides(rows, columns, row_ids, column_ids, valid)
    return _reduce(_LOGSUMEXP, *sides) if columns.shape[0] else jnp.full(rows.shape[0], MASKED)


def logsumexp_within(z: Array, *, ids: Array | None = None, valid: Array | None = None) -> Array:
    """f32[N], log sum_j exp(z_i . z_j) over the j with another id; -1e30 for the i, and without the j, not valid.

    z: [N, D], float32 or bfloat16; ids: i32[N], by default of each its own; valid: bool[N]. A temperature belongs on
    both sides, its root in z. As x_ij = x_ji, a block serves twice: it takes half of `logsumexp_of_products(z, z)`.
    """
    ids = jnp.arange(z.shape[0]) if ids is None else ids
    _, side = _sides(z, z, ids, ids, valid)
    return _reduce(_LOGSUMEXP, side, side if device_count() > 1 else None)


def sum_of_softplus(
    rows: Array,
    columns: Array,
    *,
    row_ids: Array | None = None,
    column_ids: Array | None = None,
    valid: Array | None = None,
) -> Array:
    """f32[N], sum_j log(1 + exp(rows_i . columns_j)); arguments as those of `logsumexp_of_products`."""
    return _reduce(_SOFTPLUS, *_sides(rows, columns, row_ids, column_ids, valid))


def cross_entropy_of_products(rows: Array, targets: Array, columns: Array, *, valid: Array | None = None) -> Array:
    """f32[N], the cross-entropy from softmax_j(targets_i . columns_j) to softmax_j(rows_i . columns_j).

    rows, targets: [N, D]; columns: [K, D]; valid: bool[K]. Only the rows get a gradient; 0 where no column is valid.

    With weights p_ij it is log sum_j exp(rows_i . columns_j) - sum_j p_ij (rows_i . columns_j), and the last sum is the
    product of rows_i with a mean column, sum_j p_ij columns_j: the gradient of the targets' log-sum-exp.
    """
    targets, columns = jax.lax.stop_gradient((targets, columns))
    mean_column = jax.grad(lambda x: jnp.sum(logsumexp_of_products(x, columns, valid=valid)))(targets)
    total = logsumexp_of_products(rows, columns, valid=valid)
    return jnp.where(total > MASKED, total - jnp.sum(rows * mean_column, axis=1), 0)


def _block_shape(n: int, k: int) -> tuple[int, int]:
    """How many of `n` rows and of `k` columns make a block: all, if their products are no more than `block_size()`."""
    products = block_size()
    height = min(n, max(math.isqrt(products), products // k))
    return height, min(k, max(products // height, 1))


def block_size() -> int:
    """How many products a block has at most."""
    return BLOCK if target_platform() == "cpu" else ACCELERATOR_BLOCK


def _cut(x: Array, index: Array, size: int) -> Array:
    """The `index`-th part of `size` along the first axis; where fewer than `size` are left, the last `size`."""
    return jax.lax.dynamic_slice_in_dim(x, jnp.minimum(index * size, x.shape[0] - size), size)


def _cut_new(length: int, index: Array, size: int) -> Array:
    """bool[size], which items of that part are in no earlier one."""
    return _cut(jnp.arange(length), index, size) >= index * size


@dataclasses.dataclass(frozen=True)
class _Reduction:
    """How products become one number a row."""

    start: float
    """The result of no column."""
    reduce: Callable[[Array, Array, int], Array]
    """Products f32[n, k], which of them count bool[n, k], and the axis to reduce, to f32[n] or f32[k]."""
    merge: Callable[[Array, Array], Array]
    """The results of two sets of columns to that of both."""
    merge_devices: Callable[[Array, tuple[str, ...]], Array]
    """The results of all devices' columns to that of all."""
    derivative: Callable[[Array, Array], Array]
    """Products f32[n, k] and results f32[n, 1] or f32[1, k] to f32[n, k], the derivative of the results by these."""


def _logsumexp_of_devices(y: Array, axes: tuple[str, ...]) -> Array:
    largest = jax.lax.pmax(y, axes)
    return largest + jnp.log(jax.lax.psum(jnp.exp(y - largest), axes))


_LOGSUMEXP = _Reduction(
    start=MASKED,
    reduce=lambda x, counts, axis: jax.nn.logsumexp(jnp.where(counts, x, MASKED), axis=axis),
    merge=jnp.logaddexp,
    merge_devices=_logsumexp_of_devices,
    derivative=lambda x, y: jnp.exp(x - y),
)
_SOFTPLUS = _Reduction(
    start=0.0,
    reduce=lambda x, counts, axis: jnp.sum(jax.nn.softplus(x), axis=axis, where=counts),
    merge=jnp.add,
    merge_devices=jax.lax.psum,
    derivative=lambda x, _: jax.nn.sigmoid(x),
)

_Side = tuple[Array, Array, Array]  # vectors [N, D], ids i32[N], valid bool[N]


def _sides(rows, columns, row_ids, column_ids, valid) -> tuple[_Side, _Side]:
    """Both sides with ids that differ, and all valid, where there are none; checks the shapes."""
    shapes = f"rows of shape {rows.shape} and columns of shape {columns.shape}"
    if rows.ndim != 2 or columns.ndim != 2 or rows.shape[1] != columns.shape[1]:
        raise ValueError(f"{shapes} should be [N, D] and [K, D]")
    if (row_ids is None) != (column_ids is None):
        raise ValueError("row_ids and column_ids go together: give both or none")
    (n, _), (k, _) = rows.shape, columns.shape
    row_ids = jnp.zeros(n, jnp.int32) if row_ids is None else row_ids
    column_ids = jnp.ones(k, jnp.int32) if column_ids is None else column_ids
    valid = jnp.ones(k, bool) if valid is None else valid
    for name, x, length in (("row_ids", row_ids, n), ("column_ids", column_ids, k), ("valid", valid, k)):
        if x.shape != (length,):
            raise ValueError(f"{name} of shape {x.shape} does not fit {shapes}")
    return (rows, row_ids, jnp.ones(n, bool)), (columns, column_ids, valid)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce(reduction: _Reduction, rows: _Side, columns: _Side | None) -> Array:
    """f32[N]; a pair counts if both are valid and their ids differ. Columns of None are the rows again."""
    return _forward(reduction, rows, columns)[0]


def _forward(reduction, rows, columns):
    def part(axes, rows, columns):
        y = _reduce_blocks(reduction, rows, columns)
        return reduction.merge_devices(y, axes) if axes else y, ()

    y, _ = on_own_share(part, rows, columns)
    return y, (rows, columns, y)


def _backward(reduction, saved, g):
    rows, columns, y = saved

    def part(axes, rows, columns):
        d_rows, d_columns = _gradient_blocks(reduction, *rows, columns)  # pyright: ignore[reportCallIssue] custom_vjp
        return jax.lax.psum(d_rows, axes) if axes else d_rows, d_columns

    d_rows, d_columns = on_own_share(part, (rows, y, g), columns)
    return (d_rows, None, None), columns and (d_columns, None, None)


_reduce.defvjp(_forward, _backward)


def _places(rows: _Side, columns: _Side | None) -> tuple[Array, int, int]:
    """The places i32[blocks, 2] of all blocks, or of one of each two that mirror each other, and a block's shape."""
    n = rows[0].shape[0]
    height, width = _block_shape(n, n if columns is None else columns[0].shape[0])
    if columns is None:
        height = width = min(height, width)
        places = [(i, j) for i in range(-(-n // height)) for j in range(i + 1)]
    else:
        places = [(i, j) for i in range(-(-n // height)) for j in range(-(-columns[0].shape[0] // width))]
    return jnp.array(places, jnp.int32), height, width


def _block(rows: _Side, columns: _Side, i: Array, j: Array, height: int, width: int) -> tuple[Array, ...]:
    """A block's row vectors, its column vectors, their products, and which of these count."""
    r, row_ids, row_valid = (_cut(x, i, height) for x in rows)
    c, column_ids, column_valid = (_cut(x, j, width) for x in columns)
    row_valid &= _cut_new(rows[0].shape[0], i, height)
    column_valid &= _cut_new(columns[0].shape[0], j, width)
    counts = row_valid[:, None] & column_valid[None] & (row_ids[:, None] != column_ids[None])
    return r, c, _dot(r, c, 1, 1), counts


def _reduce_blocks(reduction: _Reduction, rows: _Side, columns: _Side | None) -> Array:
    places, height, width = _places(rows, columns)
    mirrored = columns is None and len(places) > 1

    def step(y, place):
        i, j = place
        _, _, x, counts = _block(rows, rows if columns is None else columns, i, j, height, width)
        y = _update(y, i, reduction.merge, reduction.reduce(x, counts, 1))
        if mirrored:
            y = _update(y, j, reduction.merge, reduction.reduce(x, counts & (i != j), 0))
        return y, None

    return jax.lax.scan(step, jnp.full(rows[0].shape[0], reduction.start, jnp.float32), places)[0]


def _gradient_blocks(reduction: _Reduction, rows: _Side, y: Array, g: Array, columns: _Side | None) -> tuple:
    places, height, width = _places(rows, columns)
    mirrored = columns is None and len(places) > 1

    def step(gradients, place):
        d_rows, d_columns = gradients
        i, j = place
        with jax.named_scope("rematted_computation"):  # as jax.checkpoint names what it computes again
            r, c, x, counts = _block(rows, rows if columns is None else columns, i, j, height, width)
        w = reduction.derivative(x, _cut(y, i, height)[:, None]) * _cut(g, i, height)[:, None]
        if mirrored:
            v = reduction.derivative(x, _cut(y, j, width)[None]) * _cut(g, j, width)[None]
            w += jnp.where(i != j, v, 0)
        w = jnp.where(counts, w, 0).astype(r.dtype)
        # w.T @ r, which a CPU multiplies four times slower; the barrier keeps XLA from turning it back into that
        by_columns = jax.lax.optimization_barrier(_dot(r, w, 0, 0)).T
        d_rows = _update(d_rows, i, jnp.add, _dot(w, c, 1, 0))
        if columns is None:
            return (_update(d_rows, j, jnp.add, by_columns), ()), None
        return (d_rows, _update(d_columns, j, jnp.add, by_columns)), None

    start = jnp.zeros(rows[0].shape, jnp.float32), () if columns is None else jnp.zeros(columns[0].shape, jnp.float32)
    gradients = jax.lax.scan(step, start, places)[0]
    return jax.tree.map(lambda d: d.astype(rows[0].dtype), gradients)


def _dot(x: Array, y: Array, x_axis: int, y_axis: int) -> Array:
    """A product of matrices; one of float32 is exact on every device, so bfloat16 is the way to a faster one."""
    contract = (((x_axis,), (y_axis,)), ((), ()))
    return jax.lax.dot_general(x, y, contract, precision="highest", preferred_element_type=jnp.float32)


def _update(total: Array, index: Array, merge: Callable, part: Array) -> Array:
    """`total` with `part` merged into its `index`-th part."""
    start = jnp.minimum(index * part.shape[0], total.shape[0] - part.shape[0])
    part = merge(jax.lax.dynamic_slice_in_dim(total, start, part.shape[0]), part)
    return jax.lax.dynamic_update_slice_in_dim(total, part, start, 0)
