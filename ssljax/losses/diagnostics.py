"""Figures that show how a training does, cheap enough to log at every step: none needs a [B, B] matrix.

Embeddings are L2-normalised inside. Where there is nothing to average (a batch of one, no positive pair) a figure is 0.
"""

import jax.numpy as jnp
from jax.nn import logsumexp
from jax.ops import segment_sum
from jax.scipy.special import entr

from ssljax.losses.checks import check_array, check_labelled, check_same
from ssljax.losses.normalise import l2_normalise
from ssljax.types import Array, Scalar


def embedding_std(z: Array) -> Array:
    """f32[], the standard deviation over the batch of the normalised z f32[B, D], averaged over D, times sqrt(D).

    1 for directions spread evenly, 0 if all embeddings are the same (SimSiam, Chen and He 2021, section 4.1).
    """
    z = l2_normalise(z)
    return jnp.mean(jnp.std(z, axis=0)) * jnp.sqrt(z.shape[1])


def entropy(p: Array) -> Array:
    """f32[], the mean entropy in nats of the probabilities p f32[..., K] over the last axis.

    Of DINO's teacher ln K means that it has become uniform, and a loss stuck at ln K with it. The loss less this is
    the KL from teacher to student (Caron et al. 2021, section 5.3).
    """
    return jnp.mean(jnp.sum(entr(jnp.asarray(check_array("p", p), jnp.float32)), axis=-1))


def kl_to_uniform(p: Array) -> Array:
    """f32[], KL in nats from the *mean* of the probabilities p f32[..., K] to the uniform distribution.

    0 if the batch uses all K alike, ln K if a single one takes it all: the collapse that centering prevents.
    """
    p = jnp.asarray(check_array("p", p), jnp.float32)
    mean = jnp.mean(p.reshape(-1, p.shape[-1]), axis=0)
    return jnp.log(p.shape[-1]) - jnp.sum(entr(mean))


def view_cosines(z1: Array, z2: Array, valid: Array | None = None) -> tuple[Array, Array]:
    """Mean cosine of the positive pairs (z1_i, z2_i) and of the negative ones (z1_i, z2_j), i != j; z1, z2: f32[B, D].

    valid: bool[B], False for items to leave out. The sum over all pairs is the product of the sums of unit vectors.
    """
    z1, z2 = check_same("z1", z1, "z2", z2)
    z1, z2 = l2_normalise(z1), l2_normalise(z2)
    batch = jnp.float32(z1.shape[0])  # as an integer its square may overflow 32 bits
    if valid is not None:
        z1, z2 = (jnp.where(valid[:, None], z, 0) for z in (z1, z2))
        batch = jnp.sum(valid, dtype=jnp.float32)
    positive = jnp.sum(z1 * z2)
    negative = jnp.sum(jnp.sum(z1, axis=0) * jnp.sum(z2, axis=0)) - positive
    return positive / jnp.maximum(batch, 1.0), negative / jnp.maximum(batch * (batch - 1.0), 1.0)


def label_cosines(z: Array, labels: Array) -> tuple[Array, Array]:
    """Mean cosine of the pairs of one label, and of two; z: f32[B, D], labels: i32[B], -1 is left out.

    The sum over the pairs of a class is the square of its sum of unit vectors, less each vector's own.
    """
    z, labels, sound = check_labelled("z", z, labels)
    known = labels >= 0
    z = jnp.where(known[:, None], l2_normalise(z), 0)
    # Classes are numbered by where they start among the sorted labels, so that their numbers stay below B.
    group = jnp.searchsorted(jnp.sort(labels), labels)
    sums = segment_sum(z, group, num_segments=z.shape[0])
    sizes = segment_sum(known.astype(jnp.float32), group, num_segments=z.shape[0])
    within, own = jnp.sum(jnp.square(sums)), jnp.sum(jnp.square(z))
    across = jnp.sum(jnp.square(jnp.sum(z, axis=0))) - within
    total, alike = jnp.sum(sizes), jnp.sum(jnp.square(sizes))
    positive = (within - own) / jnp.maximum(alike - total, 1)
    return sound * positive, sound * across / jnp.maximum(jnp.square(total) - alike, 1)


def alignment(z1: Array, z2: Array) -> Array:
    """f32[], the mean squared distance of positive pairs, z1, z2: f32[B, D] (Wang and Isola 2020, alpha = 2)."""
    z1, z2 = check_same("z1", z1, "z2", z2)
    return jnp.mean(jnp.sum(jnp.square(l2_normalise(z1) - l2_normalise(z2)), axis=1))


def uniformity(z: Array, *, sample: int = 512) -> Array:
    """f32[], log of the mean exp(-2 squared distance) over the pairs of the first `sample` rows of z f32[B, D].

    0 if all are the same, towards -4 if they are spread evenly over a sphere of many dimensions (Wang and Isola 2020,
    t = 2). A step's batch is in random order, so its first rows are a fair sample.
    """
    z = l2_normalise(check_array("z", z)[:sample])
    rows = z.shape[0]
    if rows == 1:
        return jnp.zeros(())
    exponent = 4 * jnp.matmul(z, z.T, precision="highest") - 4  # -2 |a - b|² of unit vectors
    others = jnp.where(jnp.eye(rows, dtype=bool), -jnp.inf, exponent)
    return logsumexp(others) - jnp.log(rows * (rows - 1))


def active_triplets(z: Array, labels: Array, *, margin: Scalar, sample: int = 128) -> Array:
    """f32[], the share of triplets with margin + d(anchor, positive) - d(anchor, negative) > 0, d not squared.

    z: f32[B, D]; labels: i32[B], -1 is left out. Of the first `sample` rows only: they make sample³ triplets.
    """
    z, labels, sound = check_labelled("z", z, labels)
    z, labels = l2_normalise(z[:sample]), labels[:sample]
    known = (labels >= 0)[:, None] & (labels >= 0)[None]
    alike = labels[:, None] == labels[None]
    positive = known & alike & ~jnp.eye(z.shape[0], dtype=bool)
    negative = known & ~alike
    distance = jnp.sqrt(jnp.maximum(2 - 2 * jnp.matmul(z, z.T, precision="highest"), 0))
    triplet = positive[:, :, None] & negative[:, None]
    active = triplet & (margin + distance[:, :, None] - distance[:, None] > 0)
    return sound * jnp.sum(active, dtype=jnp.float32) / jnp.maximum(jnp.sum(triplet, dtype=jnp.float32), 1)
