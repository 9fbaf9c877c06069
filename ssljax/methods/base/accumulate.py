"""Gradient accumulation: networks see a batch in parts, with the memory of one, and the loss sees all of it.

Every network's forward pass runs over one part after the other and keeps its outputs alone; the backward pass makes the
activations of each part again and adds up the gradients. This is GradCache (Gao et al. 2021, arXiv 2101.06983), whose
gradient is exactly that of the whole batch, also for losses that compare all items with each other, at the cost of one
more forward pass.

What depends on the batch within a network sees a part: BatchNorm normalises each part by its own statistics, and its
running statistics are the mean over the parts, as with `norm_groups` parts. A network is traced for the rows of one
device, so that gradients are summed over the devices once and not in every part. A module that compares rows must ask
for those of the others, as BatchNorm does (see `ssljax.sharding.share_axes`).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from ssljax.sharding import on_own_share
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
    apply: Callable[[PyTree, Array | None, PyTree], tuple[PyTree, PyTree]],
    variables: PyTree,
    rng: Array | None,
    rows: PyTree,
) -> tuple[PyTree, PyTree]:
    """`apply(variables, rng, rows)` on one part of the rows after the other; its outputs for all rows, and its mean
    statistics.

    apply: returns outputs with the same first axis as the rows, and statistics of any shape.
    variables: arrays that every device has whole. Each device adds up their gradients over its parts, and these are
      summed over the devices once, at the end.
    rng: folded with the number of the part, if there is more than one.
    rows: arrays [N, ...]. A part has the same number of rows of each device, so none of them moves.
    """
    parts = _parts.get()
    if parts == 1:
        return apply(variables, rng, rows)

    def own(axes: tuple[str, ...], whole: tuple[PyTree, Array | None], rows: PyTree) -> tuple[PyTree, PyTree]:
        variables, rng = whole

        def part(number_and_rows: tuple[Array, PyTree]) -> tuple[PyTree, PyTree]:
            number, some = number_and_rows
            return apply(variables, None if rng is None else jax.random.fold_in(rng, number), some)

        each = jax.checkpoint(part, prevent_cse=False)  # a loop's body is never merged with another
        cut = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), rows)
        outputs, statistics = jax.lax.map(each, (jnp.arange(parts), cut))
        mean = jax.lax.pmean(jax.tree.map(lambda x: x.mean(axis=0), statistics), axes)
        return mean, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)

    statistics, outputs = on_own_share(own, (variables, rng), rows)
    return outputs, statistics
