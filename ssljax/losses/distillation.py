"""Losses that teach a student by a teacher. No gradient reaches the teacher: each stops it inside.

All are means over the batch, f32[]; the logits may have any float type and are made float32 first.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jax.nn import log_softmax, softmax

from ssljax.losses.checks import check_array, check_fits, check_same
from ssljax.losses.classification import soft_cross_entropy
from ssljax.losses.contrastive import re_ssl
from ssljax.losses.normalise import l2_normalise
from ssljax.types import Array, Scalar

SMALLEST_DISTANCE = 1e-8  # nearest neighbours closer than this count as this far apart, and do not push


def negative_cosine(p: Array, z: Array) -> Array:
    """Minus the mean cosine of p and z, f32[B, D] each, in [-1, 1] (SimSiam, Chen and He 2021, eq. 1).

    No gradient reaches z. SimSiam's loss is the mean of the two directions (eq. 4).
    """
    p, z = check_same("p", p, "z", z)
    return -jnp.mean(jnp.sum(l2_normalise(p) * stop_gradient(l2_normalise(z)), axis=1))


def byol(p1: Array, z2: Array, p2: Array, z1: Array) -> Array:
    """The two directions' 2 - 2 cos summed, mean over the batch, in [0, 8] (BYOL, Grill et al. 2020, eq. 2).

    p1, p2: f32[B, D], the student's predictions of two views; z1, z2: the teacher's projections of the same views.
    """
    return 4 + 2 * negative_cosine(p1, z2) + 2 * negative_cosine(p2, z1)


def dino(student: Array | Sequence[Array], targets: Array, *, student_temperature: Scalar) -> Array:
    """Cross-entropy from the teacher's view to every other view of the student (DINO, Caron et al. 2021, eq. 3).

    student: f32[V, B, K], the logits of all views, or several such arrays, such as one of each size of crops; targets:
    f32[T, B, K], the teacher's probabilities for the first T <= V of the views: of `centered_softmax`, or of `sinkhorn`
    as in DINOv2. The T (V - 1) pairs of different views weigh the same.
    """
    several = isinstance(student, list | tuple) and all(np.ndim(x) == 3 for x in student)
    parts = [check_array("student", x) for x in (student if several else [student])]
    targets = check_array("targets", targets)
    shapes = " and ".join(str(x.shape) for x in parts)
    if targets.ndim != 3 or any(x.ndim != 3 or x.shape[1:] != targets.shape[1:] for x in parts):
        raise ValueError(f"student of shape {shapes} and targets of shape {targets.shape} should be [views, B, K]")
    views, (teachers, batch, _) = sum(len(x) for x in parts), targets.shape
    if teachers > views or views < 2 or not teachers:
        raise ValueError(
            f"student of shape {shapes} needs at least two views, and those of targets of shape {targets.shape}"
        )
    # A view's cross-entropies to all teachers are one, to the sum of their probabilities, less its own teacher's.
    targets = stop_gradient(_float(targets))
    of_all, total, first = jnp.sum(targets, axis=0, keepdims=True), jnp.zeros(()), 0
    for x in parts:
        own = targets[first : first + len(x)]
        first += len(x)
        logits = _float(x) / student_temperature
        total += jnp.sum(soft_cross_entropy(logits[: len(own)], of_all - own))
        total += jnp.sum(soft_cross_entropy(logits[len(own) :], of_all))
    return total / (batch * teachers * (views - 1))


def ibot(student: Array, targets: Array, mask: Array, *, student_temperature: Scalar) -> Array:
    """Cross-entropy at the masked patches, mean over those of an image, then over the images (iBOT, Zhou et al. 2022).

    student: f32[B, N, K], the logits of patches, which the student saw masked; targets: f32[B, N, K], the teacher's
    probabilities for the same patches; mask: bool[B, N], True for a masked patch. An image without masked patches
    counts, with a loss of 0.
    """
    student, targets = check_same("student", student, "targets", targets, "[B, N, K]")
    mask = jnp.asarray(mask)
    check_fits("mask", mask, student.shape[:2], "student", student)
    cross_entropy = soft_cross_entropy(_float(student) / student_temperature, _float(targets))
    masked = mask.astype(bool)
    of_image = jnp.sum(jnp.where(masked, cross_entropy, 0), axis=1) / jnp.maximum(jnp.sum(masked, axis=1), 1)
    return jnp.mean(of_image)


def centered_softmax(logits: Array, center: Array, *, temperature: Scalar) -> Array:
    """f32[..., K], softmax((logits - center) / temperature): DINO's teacher (eq. 1), without gradient.

    logits: f32[..., K]; center: f32[K], as it was before this batch: see `update_center`.
    """
    logits, center = check_array("logits", logits), check_array("center", center)
    check_fits("center", center, logits.shape[-1:], "logits", logits)
    center = jnp.expand_dims(_float(center), range(logits.ndim - 1))
    return stop_gradient(softmax((_float(logits) - center) / temperature))


def update_center(center: Array, teacher: Array, *, momentum: Scalar) -> Array:
    """f32[K], `momentum` x center + (1 - momentum) x the teacher's mean logits (DINO, eq. 4); without gradient.

    center: f32[K]; teacher: f32[..., K], averaged over all axes but the last: the whole batch, on whatever devices.
    """
    center, teacher = check_array("center", center), check_array("teacher", teacher)
    check_fits("center", center, teacher.shape[-1:], "teacher", teacher)
    mean = jnp.mean(_float(teacher), axis=tuple(range(teacher.ndim - 1)))
    return stop_gradient(momentum * _float(center) + (1 - momentum) * mean)


def koleo(z: Array) -> Array:
    """KoLeo: minus the mean log distance to the nearest neighbour in the batch (Sablayrolles et al. 2019).

    z: f32[B, D], normalised inside as in DINOv2 (Oquab et al. 2023). Both neighbours get the gradient. Distances below
    1e-8 count as 1e-8, with a gradient of 0; a batch of one has a loss of 0. Finds the neighbours in a [B, B] matrix.
    """
    z = check_array("z", z)
    if z.ndim != 2:
        raise ValueError(f"z of shape {z.shape} should be [B, D]")
    batch = z.shape[0]
    if batch == 1:
        return jnp.zeros(())
    z = l2_normalise(z)
    fixed = stop_gradient(z)
    cosine = jnp.matmul(fixed, fixed.T, precision="highest")
    nearest = jnp.argmax(jnp.where(jnp.eye(batch, dtype=bool), -jnp.inf, cosine), axis=1)
    square = jnp.sum(jnp.square(z - z[nearest]), axis=1)
    return -jnp.mean(jnp.log(jnp.maximum(square, SMALLEST_DISTANCE**2))) / 2


def similarity_distillation(
    student: Array,
    teacher: Array,
    queue: Array,
    *,
    student_temperature: Scalar,
    teacher_temperature: Scalar,
    valid: Array | None = None,
) -> Array:
    """Cross-entropy from the teacher's similarities to a queue to the student's (SEED, Fang et al. 2021).

    student, teacher: f32[B, D], embeddings of the same view; queue: f32[K, D], the teacher's keys *with this batch's
    already in it* (enqueue, then call: each item must find its own key there), which is all that tells it from ReSSL;
    valid: bool[K], False for places not yet written. Published with a student_temperature of .2 and a
    teacher_temperature of .01. Without any valid place the loss is 0. No gradient reaches the teacher or the queue.
    """
    return re_ssl(
        student,
        teacher,
        queue,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        valid=valid,
    )


def knowledge_distillation(student_logits: Array, teacher_logits: Array, *, temperature: Scalar) -> Array:
    """temperature² x KL(teacher || student) of the softened classes, mean over the batch (Hinton et al. 2015).

    student_logits, teacher_logits: f32[B, C]. The factor keeps the gradient's size when the temperature changes.
    """
    student, teacher = check_same("student_logits", student_logits, "teacher_logits", teacher_logits, "[B, C]")
    log_p = log_softmax(_float(student) / temperature)
    log_target = log_softmax(stop_gradient(_float(teacher)) / temperature)
    return temperature**2 * jnp.mean(jnp.sum(jnp.exp(log_target) * (log_target - log_p), axis=1))


def _float(x: Array) -> Array:
    return jnp.asarray(x, jnp.float32)
