"""Gradient accumulation: networks see a batch in parts, with the memory of one, and the loss sees all of it.

Every network's forward pass runs over one part after the other and keeps its outputs alone; the backward pass makes the
activations of each part again and adds up the gradients. This is GradCache (Gao et al. 2021, arXiv 2101.06983), whose
gradient is exactly that of the whole batch, also for losses that compare all items with each other, at the cost of one
more forward pass.

What depends on the batch within a network sees a part: BatchNorm normalises each part by its own statistics, and its
running statistics are the mean over the parts, as with `norm_groups` parts.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from ssljax.sharding import device_count, split_rows
from ssljax.types import Array, PyTree

_parts = contextvars.ContextVar("parts", default=1)


@contextlib.contextmanager
def accumulating(parts: int) -> Iterator[None]:
    """Within it, what is traced by `in_parts` takes its rows in so many parts, which the rows of a device divide by."""
    token = _parts.set(parts)
    try:
        yield
    finally:
        _parts.reset(token)


def in_parts(
    apply: Callable[[Array | None, PyTree], tuple[PyTree, PyTree]], rng: Array | None, rows: PyTree
) -> tuple[PyTree, PyTree]:
    """`apply(rng, rows)` on one part of the rows after the other; its outputs for all rows, and its mean statistics.

    apply: returns outputs with the same first axis as the rows, and statistics of any shape.
    rng: folded with the number of the part, if there is more than one.
    rows: arrays [N, ...]. A part has the same number of rows of each device, so none of them moves.
    """
    parts = _parts.get()
    if parts == 1:
        return apply(rng, rows)

    def cut(x: Array) -> Array:
        apart = x.reshape(device_count(), parts, -1, *x.shape[1:]).swapaxes(0, 1)
        return split_rows(apart.reshape(parts, -1, *x.shape[1:]), axis=1)

    def join(x: Array) -> Array:
        apart = x.reshape(parts, device_count(), -1, *x.shape[2:]).swapaxes(0, 1)
        return split_rows(apart.reshape(-1, *x.shape[2:]))

    def part(number_and_rows: tuple[Array, PyTree]) -> tuple[PyTree, PyTree]:
        number, own = number_and_rows
        return apply(None if rng is None else jax.random.fold_in(rng, number), own)

    each = jax.checkpoint(part, prevent_cse=False)  # a loop's body is never merged with another
    outputs, statistics = jax.lax.map(each, (jnp.arange(parts), jax.tree.map(cut, rows)))
    return jax.tree.map(join, outputs), jax.tree.map(lambda x: x.mean(axis=0), statistics)
