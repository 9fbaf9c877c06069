"""Metric-learning losses over pairs and triplets of labelled embeddings.

Embeddings are L2-normalised inside unless said; d is the Euclidean distance of the unit vectors, not squared. Every
anchor is compared with the references: the batch itself, or a memory (`cross_batch`). An item is never paired with
itself, and items with a label of -1 are left out, as anchors and as references; what else is no label is refused, or
gives NaN (`ssljax.losses.checks`). A loss without any pair or triplet is 0, with a gradient of 0.

Memory grows with B, not with B * B, and batch and memory may be split over devices: see `ssljax.losses.pairs`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from ssljax.losses.blockwise import MASKED
from ssljax.losses.checks import array_of, check_array, check_labelled, check_labels
from ssljax.losses.normalise import l2_normalise
from ssljax.losses.pairs import Pairs, References, mean_of_counted, of_anchors, unit_distance
from ssljax.types import Array, PyTree, Scalar

Mining = Literal["all", "easy", "semi_hard", "hard", "batch_hard"]


def triplet(
    z: Array, labels: Array, *, margin: Scalar, mining: Mining, soft: bool = False, references: References | None = None
) -> Array:
    """Triplet loss max(0, margin + d_ap - d_an) (Schroff et al. 2015, section 3.1, with d not squared), f32[].

    z: f32[B, D]; labels: i32[B]; margin: a distance. The mean is over the mined triplets whose loss is not 0, as in
    pytorch-metric-learning. `soft` takes log(1 + exp(margin + d_ap - d_an)) instead, which is never 0; with a margin
    of 0 it is the soft margin of Hermans et al. 2017. `mining` says which triplets count:

    - all: every anchor with every positive and every negative;
    - easy: d_an - d_ap > margin (always 0 unless `soft`);
    - semi_hard: 0 < d_an - d_ap <= margin;
    - hard: d_an <= d_ap;
    - batch_hard: of each anchor the farthest positive with the nearest negative (Hermans et al. 2017, eq. 5).

    Time is B * R for batch_hard, otherwise B * R times the largest number of positives that an anchor has.
    """
    if mining not in get_args(Mining):
        raise ValueError(f"mining={mining!r} should be one of {', '.join(get_args(Mining))}")
    if mining == "batch_hard":
        rows = partial(_hardest_triplets, margin=margin, soft=soft)
    else:
        above, upto = {
            "all": (-jnp.inf, jnp.inf),
            "easy": (margin, jnp.inf),
            "semi_hard": (0, margin),
            "hard": (-jnp.inf, 0),
        }[mining]
        rows = partial(_mined_triplets, margin=margin, soft=soft, above=above, upto=upto)
    return mean_of_counted(*of_anchors(rows, l2_normalise(z), labels, references))


def _hardest_triplets(pairs: Pairs, *, margin: Scalar, soft: bool) -> tuple[Array, Array]:
    """The loss f32[b] of each anchor's hardest triplet, and how many count."""
    # The farthest has the least product: the matrix of products serves, and the square root is for one of a row.
    farthest = jnp.min(jnp.where(pairs.positive, pairs.product, jnp.inf), axis=1, initial=jnp.inf)
    nearest = jnp.max(jnp.where(pairs.negative, pairs.product, -jnp.inf), axis=1, initial=-jnp.inf)
    exists = jnp.any(pairs.positive, axis=1) & jnp.any(pairs.negative, axis=1)
    to_positive, to_negative = (unit_distance(jnp.where(exists, x, 0)) for x in (farthest, nearest))
    excess = margin + to_positive - to_negative
    loss = jnp.where(exists, _hinge(excess, soft), 0)
    return loss, loss > 0


def _mined_triplets(pairs: Pairs, *, margin: Scalar, soft: bool, above: Array, upto: Array) -> tuple[Array, Array]:
    """Sum of the losses f32[b] of each anchor's triplets with above < d_an - d_ap <= upto, and how many count.

    One positive of every anchor at a time, so that nothing is larger than the pairs. The derivatives by the distances
    are summed on the way: which triplets are mined is constant almost everywhere, so they are all of the gradient.
    """
    distance = jax.lax.stop_gradient(pairs.distance)
    column = jnp.arange(distance.shape[1])[None]

    def next_positive(_: Any, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        place, total, count, slope = carry
        later = pairs.positive & (column > place[:, None])
        place = jnp.min(jnp.where(later, column, column.size), axis=1)
        chosen = column == place[:, None]  # nowhere, in the row of an anchor that has no further positive
        gap = distance - jnp.sum(jnp.where(chosen, distance, 0), axis=1, keepdims=True)
        mined = pairs.negative & (above < gap) & (gap <= upto) & jnp.any(chosen, axis=1, keepdims=True)
        excess = margin - gap
        loss = jnp.where(mined, _hinge(excess, soft), 0)
        by_excess = jnp.where(mined, jax.nn.sigmoid(excess) if soft else excess > 0, 0.0)
        slope = slope - by_excess + jnp.where(chosen, jnp.sum(by_excess, axis=1, keepdims=True), 0)
        return place, total + jnp.sum(loss, axis=1), count + jnp.sum(loss > 0, axis=1), slope

    nothing = jnp.zeros_like(distance[:, 0])
    start = (jnp.full(nothing.shape, -1), nothing, nothing, jnp.zeros_like(distance))
    most = jnp.max(jnp.sum(pairs.positive, axis=1))
    _, total, count, slope = jax.lax.fori_loop(0, most, next_positive, start)
    return total + jnp.sum(slope * (pairs.distance - distance), axis=1), count  # adds 0, and the gradient


def triplet_from_indices(z: Array, triplets: Array | np.ndarray, *, margin: Scalar) -> Array:
    """Triplet loss of given triplets: mean of max(0, margin + d_ap - d_an) over those where it is not 0, f32[].

    z: f32[B, D]; triplets: i32[T, 3], the places in z of anchor, positive and negative; a triplet with a -1 is left
    out. Places beyond z are refused, or give NaN, as labels (`ssljax.losses.checks`).
    """
    z, triplets = check_array("z", z), array_of("triplets", triplets)
    if z.ndim != 2 or triplets.ndim != 2 or triplets.shape[1] != 3:
        raise ValueError(f"z of shape {z.shape} and triplets of shape {triplets.shape} should be [B, D] and [T, 3]")
    triplets, sound = check_labels("triplets", triplets, len(z))
    excess = triplet_excess(*jnp.unstack(z[triplets], axis=1), margin=margin)
    excess = jnp.where(jnp.all(triplets >= 0, axis=1), excess, 0)
    return sound * mean_of_counted(excess, excess > 0)


def triplet_excess(anchor: Array, positive: Array, negative: Array, *, margin: Scalar) -> Array:
    """max(0, margin + d_ap - d_an) of each triplet, f32[T]; anchor, positive, negative: f32[T, D]."""
    anchor, positive, negative = map(l2_normalise, (anchor, positive, negative))
    to_positive = unit_distance(jnp.sum(anchor * positive, axis=1))
    to_negative = unit_distance(jnp.sum(anchor * negative, axis=1))
    return jax.nn.relu(margin + to_positive - to_negative)


def contrastive_pairs(
    z: Array,
    labels: Array,
    *,
    positive_margin: Scalar,
    negative_margin: Scalar,
    squared: bool,
    references: References | None = None,
) -> Array:
    """Contrastive loss of pairs: max(0, d - positive_margin), and max(0, negative_margin - d) of the negatives, f32[].

    z: f32[B, D]; labels: i32[B]; margins are distances. With `squared` each is squared and halved (Hadsell et al.
    2006, eq. 4), without it is as in pytorch-metric-learning. Positives and negatives are averaged apart, each over
    those whose loss is not 0, and the two means are added.
    """

    def rows(pairs: Pairs) -> PyTree:
        def summed(excess: Array, mask: Array) -> tuple[Array, Array]:
            loss = jnp.where(mask, jax.nn.relu(excess), 0)
            loss = loss**2 / 2 if squared else loss
            return jnp.sum(loss, axis=1), jnp.sum(loss > 0, axis=1)

        distance = pairs.distance
        return summed(distance - positive_margin, pairs.positive), summed(negative_margin - distance, pairs.negative)

    positives, negatives = of_anchors(rows, l2_normalise(z), labels, references)
    return mean_of_counted(*positives) + mean_of_counted(*negatives)


def multi_similarity(
    z: Array, labels: Array, *, alpha: Scalar, beta: Scalar, base: Scalar, references: References | None = None
) -> Array:
    """Multi-similarity loss (Wang et al. 2019, eq. 15): mean over all anchors, f32[].

    z: f32[B, D]; labels: i32[B]. log(1 + sum exp(-alpha (cos - base))) / alpha over the positives, and
    log(1 + sum exp(beta (cos - base))) / beta over the negatives; published with 2, 50 and .5. The paper's mining of
    pairs (section 4.1) is not inside.
    """

    def rows(pairs: Pairs) -> Array:
        attract = jnp.where(pairs.positive, -alpha * (pairs.product - base), MASKED)
        repel = jnp.where(pairs.negative, beta * (pairs.product - base), MASKED)
        return jax.nn.softplus(logsumexp(attract, axis=1)) / alpha + jax.nn.softplus(logsumexp(repel, axis=1)) / beta

    z, labels, _ = check_labelled("z", z, labels)
    return mean_of_counted(of_anchors(rows, l2_normalise(z), labels, references), labels >= 0)


def lifted_structure(z: Array, labels: Array, *, margin: Scalar, references: References | None = None) -> Array:
    """Lifted structured loss (Song et al. 2016, eq. 4): mean over the ordered positive pairs of max(0, J)^2 / 2, f32[].

    z: f32[B, D]; labels: i32[B]; margin: a distance, 1 in the paper. J = d_ij + log(sum exp(margin - d)) with the sum
    over the negatives of i and those of j. Pairs without any negative count for nothing. With references, the negatives
    of i are among them, and those of j, which is one of them, among z; for that the references go to every device.
    """
    z = l2_normalise(z)

    def negatives(pairs: Pairs) -> Array:
        return logsumexp(jnp.where(pairs.negative, margin - pairs.distance, MASKED), axis=1)

    if references is None:
        near = of_anchors(negatives, z, labels)
    else:
        nowhere = jnp.full(len(references.labels), -1)
        near = of_anchors(negatives, references.z, references.labels, References(z, labels, nowhere))

    def rows(pairs: Pairs) -> tuple[Array, Array]:
        either = jnp.logaddexp(negatives(pairs)[:, None], near[None])
        counted = pairs.positive & (either > MASKED / 2)
        excess = jnp.where(counted, pairs.distance + either, 0)
        return jnp.sum(jax.nn.relu(excess) ** 2 / 2, axis=1), jnp.sum(counted, axis=1)

    return mean_of_counted(*of_anchors(rows, z, labels, references))


def n_pairs(z: Array, labels: Array) -> Array:
    """Multi-class N-pair loss (Sohn 2016, section 3.2): mean over the classes that have two items or more, f32[].

    z: f32[B, D], not normalised inside, as in the paper, whose penalty on the norms is not included (for
    pytorch-metric-learning's, pass `l2_normalise(z)`); labels: i32[B]. The first item of each class is its anchor,
    the second its positive: cross-entropy of the anchor's inner products with the positives of all classes.
    """
    z, labels, sound = check_labelled("z", z, labels)
    z = z.astype(jnp.float32)
    place = jnp.arange(labels.size)

    def first_and_second(pairs: Pairs) -> tuple[Array, Array]:
        own = jnp.max(jnp.where(pairs.itself, place[None], -1), axis=1)
        other = jnp.min(jnp.where(pairs.positive, place[None], labels.size), axis=1)
        return (own < other) & (other < labels.size), other

    has_pair, second = of_anchors(first_and_second, jax.lax.stop_gradient(z), labels)
    positives = References(z[second % labels.size], jnp.where(has_pair, place, -1), place)

    def rows(pairs: Pairs) -> Array:
        target = jnp.sum(jnp.where(pairs.itself, pairs.product, 0), axis=1)
        return logsumexp(jnp.where(pairs.itself | pairs.negative, pairs.product, MASKED), axis=1) - target

    losses = of_anchors(rows, z, positives.labels, positives)
    return sound * mean_of_counted(jnp.where(has_pair, losses, 0), has_pair)


def cross_batch(
    loss: Callable[..., Array],
    z: Array,
    labels: Array,
    memory: Array,
    memory_labels: Array,
    valid: Array,
    own: Array,
    **settings: Any,
) -> Array:
    """Cross-batch memory (XBM, Wang et al. 2020, algorithm 1): `loss` of the batch against a memory, f32[].

    loss: a function such as `triplet`, `contrastive_pairs`, `multi_similarity` or `sup_con`, called with `settings`;
    z: f32[B, D]; labels: i32[B]; memory: f32[K, D], into which the batch was enqueued before; memory_labels: i32[K];
    valid: bool[K], False for the places never written; own: i32[B], each item's place in the memory, so that it is not
    paired with itself (-1 if it is not there). No gradient goes into the memory. It stays where it is when it is
    split over devices.
    """
    memory_labels, sound = check_labels("memory_labels", memory_labels)
    valid = jnp.asarray(valid)
    if valid.shape != memory_labels.shape:
        raise ValueError(f"valid of shape {valid.shape} and memory_labels of shape {memory_labels.shape} should be [K]")
    references = References(jax.lax.stop_gradient(l2_normalise(memory)), jnp.where(valid, memory_labels, -1), own)
    return sound * loss(z, labels, references=references, **settings)


def _hinge(excess: Array, soft: bool) -> Array:
    return jax.nn.softplus(excess) if soft else jax.nn.relu(excess)
