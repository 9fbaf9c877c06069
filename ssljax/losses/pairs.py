"""Any function of the pairs of anchors with references, without the matrix of all pairs.

The function sees some anchors with all the references and reduces them to a few figures an anchor. Anchors are taken in
blocks, which the backward pass computes again (`ssljax.losses.blockwise` is the faster form for a log-sum-exp alone):
memory grows with B + R, not with B x R.

On many devices the anchors go to each of them, and the references stay where they are. As long as the function is made
of sums, maxima and minima over the references, what travels is the anchors and their gradient, B x D each, and figures
of single anchors.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.losses.blockwise import block_size
from ssljax.losses.checks import check_labelled, check_labels
from ssljax.losses.normalise import safe_sqrt
from ssljax.sharding import replicate, split_columns
from ssljax.types import Array, PyTree


class References(NamedTuple):
    """What anchors are compared with."""

    z: Array  # f32[R, D]
    labels: Array  # i32[R], -1 for what is left out
    own: Array  # i32[B], each anchor's own place among them, -1 if it is not there


class Pairs(NamedTuple):
    """A block of b anchors against all R references."""

    product: Array  # f32[b, R], the inner products: cosines, if the embeddings are unit vectors
    positive: Array  # bool[b, R], another item of the same label
    negative: Array  # bool[b, R], an item of another label
    itself: Array  # bool[b, R], the anchor among the references

    @property
    def distance(self) -> Array:
        """f32[b, R], between unit vectors."""
        return unit_distance(self.product)


def of_anchors(
    rows: Callable[[Pairs], PyTree], z: Array, labels: Array, references: References | None = None
) -> PyTree:
    """`rows(pairs)`, a tree of arrays [b], for all anchors: a tree of arrays [B].

    z: f32[B, D]; labels: i32[B], -1 for an anchor without any pair; references: the anchors themselves if None. Raises
    ValueError for shapes that do not fit, and labels that are none: where those are traced, every float is NaN.
    """
    z, labels, sound = check_labelled("z", z, labels)
    if references is None:
        references = References(z, labels, jnp.arange(labels.size))
    else:
        others, other_labels, others_sound = check_labelled(
            "references", references.z, references.labels, labels_name="references.labels"
        )
        own, own_sound = check_labels("references.own", references.own, len(others))
        if others.shape[1] != z.shape[1] or own.shape != labels.shape:
            given = f"references of shape {others.shape} with own places of shape {own.shape}"
            raise ValueError(f"{given} do not fit z of shape {z.shape}")
        references, sound = References(others, other_labels, own), sound * others_sound * own_sound
    size, others = labels.size, references.labels.size

    def block(anchors: tuple[Array, Array, Array]) -> PyTree:
        z, labels, own = anchors
        # In full float32 on every machine: an error e of a cosine near 1 is one of sqrt(2 e) in the distance.
        product = split_columns(jnp.matmul(z, references.z.T, precision="highest"))
        counts = (labels[:, None] >= 0) & (references.labels[None] >= 0)
        same = labels[:, None] == references.labels[None]
        itself = own[:, None] == jnp.arange(others)[None]
        figures = rows(Pairs(product, counts & same & ~itself, counts & ~same, itself))
        return jax.tree.map(lambda x: sound * x if jnp.issubdtype(x.dtype, jnp.floating) else x, figures)

    number = -(-size // max(block_size() // max(others, 1), 1))
    height = -(-size // max(number, 1))

    def cut(x: Array, fill: int) -> Array:
        padded = jnp.pad(x, [(0, number * height - size)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
        return padded.reshape(number, height, *x.shape[1:])

    anchors = replicate(z), replicate(labels), replicate(references.own)
    if number <= 1:
        return block(anchors)
    results = jax.lax.map(jax.checkpoint(block), tuple(map(cut, anchors, (0, -1, -1))))
    return jax.tree.map(lambda x: x.reshape(-1)[:size], results)


def unit_distance(cosine: Array) -> Array:
    """sqrt(2 - 2 cosine), the Euclidean distance of unit vectors; 0, with a gradient of 0, where they are the same."""
    return safe_sqrt(2 - 2 * cosine)


def mean_of_counted(total: Array, count: Array) -> Array:
    """f32[], the sum of `total` by the sum of `count`; 0 if nothing counts."""
    return jnp.sum(total) / jnp.maximum(jnp.sum(count, dtype=jnp.float32), 1)
