"""Contrastive losses. Embeddings are L2-normalised inside; sums are in float32; each returns a mean f32[].

Sums over pairs go through `ssljax.losses.blockwise`: memory grows with the batch and the queue, not with their product,
and on many devices embeddings travel, never logits or the queue. `dtype` is that of the matrix products: bfloat16 is
faster where the processor has it, with gradients that differ by some 1e-2.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import rsqrt, stop_gradient
from jax.nn import logsumexp

from ssljax.losses.blockwise import (
    MASKED,
    cross_entropy_of_products,
    logsumexp_of_products,
    logsumexp_within,
    sum_of_softplus,
)
from ssljax.losses.checks import check_array, check_features, check_labelled, check_same
from ssljax.losses.classification import soft_cross_entropy
from ssljax.losses.normalise import l2_normalise
from ssljax.losses.pairs import Pairs, References, mean_of_counted, of_anchors
from ssljax.types import Array, Scalar


def nt_xent(z1: Array, z2: Array, *, temperature: Scalar, dtype: Any = jnp.float32) -> Array:
    """NT-Xent (SimCLR, Chen et al. 2020, eq. 1): mean over the 2B rows; a row's own similarity is left out.

    z1, z2: f32[B, D], two views of the same B items. lightly, solo-learn, and pytorch-metric-learning with two views to
    a label, equal this; google-research/simclr sums the two views' means: twice this. Raises ValueError for shapes that
    differ.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    z1, z2 = l2_normalise(z1), l2_normalise(z2)
    items = jnp.repeat(jnp.arange(z1.shape[0]), 2)
    negatives = logsumexp_within((_views(z1, z2) * rsqrt(jnp.float32(temperature))).astype(dtype), ids=items)
    positive = jnp.repeat(jnp.sum(z1 * z2, axis=1) / temperature, 2)
    return jnp.mean(jax.nn.softplus(negatives - positive))  # not log-sum-exp - positive: they cancel once pairs agree


def decoupled(
    z1: Array, z2: Array, *, temperature: Scalar, sigma: Scalar | None = None, dtype: Any = jnp.float32
) -> Array:
    """DCL (Yeh et al. 2022, eq. 6): NT-Xent without the positive in the denominator; mean over the 2B rows.

    z1, z2: f32[B, D], two views of the same B items; the negatives of a row are both views of the others, in one
    log-sum-exp (lightly before its #1827 took one for each view). With a sigma, published as .5, it is DCLW: the
    positive's term is weighted by 2 - exp(cosine / sigma) / the batch's mean of it, a constant to the gradient, as in
    lightly. A batch of one has no negative and gives 0. Raises ValueError for shapes that differ.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    if z1.shape[0] == 1:
        return jnp.zeros(())
    z1, z2 = l2_normalise(z1), l2_normalise(z2)
    items = jnp.repeat(jnp.arange(z1.shape[0]), 2)
    negatives = logsumexp_within((_views(z1, z2) * rsqrt(jnp.float32(temperature))).astype(dtype), ids=items)
    cosine = jnp.sum(z1 * z2, axis=1)
    weight = 1.0 if sigma is None else 2 - stop_gradient(jax.nn.softmax(cosine / sigma)) * z1.shape[0]
    return jnp.mean(negatives) - jnp.mean(weight * cosine) / temperature


def sup_con(z: Array, labels: Array, *, temperature: Scalar, references: References | None = None) -> Array:
    """SupCon (Khosla et al. 2020, eq. 2, L_out): the mean over an item's positives outside the logarithm.

    z: f32[B, D], with all views of all items; labels: i32[B], -1 for items to leave out altogether. The mean is over
    the items that have a positive, 0 if there are none (the authors' code counts the others as 0, and multiplies by
    temperature / .07; pytorch-metric-learning's SupConLoss equals this; solo-learn's sums the positives inside the
    logarithm, equal only with one positive each). Positives and negatives are of the batch itself, or of `references`,
    as in `ssljax.losses.metric`. Raises ValueError for shapes that do not fit.
    """
    if references is not None:
        return _sup_con_with(references, z, labels, temperature)
    z, labels, sound = check_labelled("z", z, labels)
    z = l2_normalise(z)
    valid = labels >= 0
    total = logsumexp_within(z * rsqrt(jnp.float32(temperature)), valid=valid)
    # The mean product with the positives is the product with their mean: no matrix.
    _, group = jnp.unique(labels, return_inverse=True, size=labels.shape[0])
    positives = (jax.ops.segment_sum(jnp.ones_like(labels), group, labels.shape[0]) - 1)[group]
    sums = jax.ops.segment_sum(z, group, labels.shape[0])[group] - z
    positive = jnp.sum(z * sums, axis=1) / jnp.maximum(positives, 1) / temperature
    return sound * _mean(total - positive, valid & (positives > 0))


def _sup_con_with(references: References, z: Array, labels: Array, temperature: Scalar) -> Array:
    def rows(pairs: Pairs) -> tuple[Array, Array]:
        logits = pairs.product / temperature
        positives = jnp.sum(pairs.positive, axis=1)
        mean = jnp.sum(jnp.where(pairs.positive, logits, 0), axis=1) / jnp.maximum(positives, 1)
        total = logsumexp(jnp.where(pairs.positive | pairs.negative, logits, MASKED), axis=1)
        return jnp.where(positives > 0, total - mean, 0), positives > 0

    return mean_of_counted(*of_anchors(rows, l2_normalise(z), labels, references))


def info_nce(
    anchor: Array,
    positive: Array,
    queue: Array,
    *,
    temperature: Scalar,
    valid: Array | None = None,
    dtype: Any = jnp.float32,
) -> Array:
    """InfoNCE with one positive and a queue of negatives (MoCo, He et al. 2020, eq. 1): mean over the anchors.

    anchor, positive: f32[B, D]; queue: f32[K, D]; valid: bool[K], False for places of the queue to leave out.
    Cross-entropy of B rows of 1 + K cosines / temperature, without a factor 2 * temperature: as the authors' code, and
    lightly's NTXentLoss with a memory bank; solo-learn's MoCo v2+ takes the mean of both directions. With an empty
    queue it is 0. The positives and the queue get gradients if they need them: stop them outside. Raises ValueError for
    shapes that do not fit.
    """
    anchor, positive = check_same("anchor", anchor, "positive", positive)
    queue = check_features("queue", queue, "anchor", anchor)
    anchor, positive, queue = l2_normalise(anchor) / temperature, l2_normalise(positive), l2_normalise(queue)
    positive_logit = jnp.sum(anchor * positive, axis=1)
    negatives = logsumexp_of_products(anchor.astype(dtype), queue.astype(dtype), valid=valid)
    return jnp.mean(jax.nn.softplus(negatives - positive_logit))


def in_batch_info_nce(
    anchor: Array,
    key: Array,
    *,
    temperature: Scalar,
    valid: Array | None = None,
    ids: Array | None = None,
    dtype: Any = jnp.float32,
) -> Array:
    """InfoNCE among the keys of the batch (MoCo v3, Chen et al. 2021, algorithm 1): B-way cross-entropy, mean.

    anchor, key: f32[B, D]; the positive of anchor i is key i, its negatives the other B - 1 keys, and no other anchor
    (not the 2B - 1 of `nt_xent`). valid: bool[B], False for items to leave out, as anchors and as keys; without any,
    the loss is 0. ids: i32[B], items with equal ones are not each other's negatives; by default all differ. One
    direction, without MoCo v3's factor 2 * temperature; its authors sum both directions, CLIP's take their mean. The
    keys get gradients: stop them outside. Raises ValueError for shapes that do not fit.
    """
    anchor, key = check_same("anchor", anchor, "key", key)
    anchor, key = l2_normalise(anchor) / temperature, l2_normalise(key)
    ids = jnp.arange(anchor.shape[0]) if ids is None else ids
    negatives = logsumexp_of_products(anchor.astype(dtype), key.astype(dtype), row_ids=ids, column_ids=ids, valid=valid)
    return _mean(jax.nn.softplus(negatives - jnp.sum(anchor * key, axis=1)), valid)


def re_ssl(
    student: Array,
    teacher: Array,
    queue: Array,
    *,
    student_temperature: Scalar,
    teacher_temperature: Scalar,
    valid: Array | None = None,
) -> Array:
    """ReSSL (Zheng et al. 2021): cross-entropy from the teacher's similarities to a queue to the student's; mean.

    student: f32[B, D], of a strong view, published with a temperature of .1; teacher: f32[B, D], of a weak view, .04;
    queue: f32[K, D], the teacher's past keys, without this batch's; valid: bool[K], False for places to leave out. An
    empty queue gives 0. No gradient reaches the teacher or the queue. Raises ValueError for shapes that do not fit.
    """
    student, teacher = check_same("student", student, "teacher", teacher)
    queue = check_features("queue", queue, "student", student)
    student, teacher = l2_normalise(student) / student_temperature, l2_normalise(teacher) / teacher_temperature
    return jnp.mean(cross_entropy_of_products(student, teacher, l2_normalise(queue), valid=valid))


def siglip(
    z1: Array, z2: Array, *, scale: Scalar, bias: Scalar, valid: Array | None = None, ids: Array | None = None
) -> Array:
    """SigLIP (Zhai et al. 2023, algorithm 1): every pair is a yes or no; sum over the B x B pairs, divided by B.

    z1, z2: f32[B, D], two views, or image and text, of the same B items; scale and bias: f32[], learnt, published with
    10 (the exponential of a learnt log 10) and -10 at the start. valid: bool[B], False for items to leave out: the sum
    is over the pairs of the others, divided by their number; without any it is 0. ids: i32[B], pairs of two items with
    equal ones are left out; by default all differ. Raises ValueError for shapes that do not fit.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    z1, z2 = l2_normalise(z1) * scale, l2_normalise(z2)
    one, ids = jnp.ones((z1.shape[0], 1), jnp.float32), jnp.arange(z1.shape[0]) if ids is None else ids
    logits = jnp.concatenate([z1, one * bias], axis=1), jnp.concatenate([z2, one], axis=1)
    # -log sigmoid(x) is softplus(-x), and softplus(x) of the negatives, whose sign is turned.
    negatives = sum_of_softplus(*logits, row_ids=ids, column_ids=ids, valid=valid)
    return _mean(negatives + jax.nn.softplus(-(jnp.sum(z1 * z2, axis=1) + bias)), valid)


def swav(scores: Array, assignments: Array, *, temperature: Scalar) -> Array:
    """SwAV (Caron et al. 2020, eq. 2): cross-entropy from one view's assignments to another view's scores; mean.

    scores: f32[B, K], cosines of the embeddings with K prototypes, published with a temperature of .1; assignments:
    f32[B, K], of the other view, from `sinkhorn`; they get no gradient. The loss of two views is the sum (eq. 1) or, in
    the authors' code, the mean of both swaps. Raises ValueError for shapes that differ.
    """
    scores, assignments = check_same("scores", scores, "assignments", assignments)
    scores, assignments = jnp.asarray(scores, jnp.float32), jnp.asarray(assignments, jnp.float32)
    return jnp.mean(soft_cross_entropy(scores / temperature, assignments))


def sinkhorn(scores: Array, *, epsilon: Scalar, iterations: int) -> Array:
    """f32[B, K], soft assignments of a batch to prototypes, each prototype used alike (SwAV, eq. 3 to 5).

    scores: f32[B, K], of the global batch; published with an epsilon of .05 and 3 iterations. Each iteration makes the
    prototypes' sums equal and then each item's sum 1. Taken in logarithms, so that no score is too large; no gradient.
    """
    scores = check_array("scores", scores)
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {scores.shape} should be [B, K]")
    logits = stop_gradient(jnp.asarray(scores, jnp.float32)) / epsilon
    for _ in range(iterations):
        logits = jax.nn.log_softmax(logits, axis=0)
        logits = jax.nn.log_softmax(logits, axis=1)
    return jnp.exp(logits)


def _views(z1: Array, z2: Array) -> Array:
    """f32[2B, D], item by item: split over devices as z1 and z2 are, nothing moves."""
    return jnp.stack([z1, z2], axis=1).reshape(-1, z1.shape[1])


def _mean(x: Array, counts: Array | None) -> Array:
    """The mean of those that count, by default all; 0 if there are none."""
    if counts is None:
        return jnp.mean(x)
    return jnp.sum(jnp.where(counts, x, 0)) / jnp.maximum(jnp.sum(counts), 1)
