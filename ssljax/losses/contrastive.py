"""Contrastive losses. Embeddings are L2-normalised inside; sums are in float32; each returns a mean f32[].

They are in dense form: `info_nce` makes [B, K / devices] logits on each device, `nt_xent` three of [B, B].
"""

import jax.numpy as jnp
from jax.nn import logsumexp

from ssljax.losses.normalise import l2_normalise
from ssljax.types import Array

MASKED = -1e30  # a logit that takes no part; finite, so that a row without any other has a gradient of 0, not NaN


def info_nce(anchor: Array, positive: Array, queue: Array, *, temperature: Array, valid: Array | None = None) -> Array:
    """InfoNCE with one positive and a queue of negatives (MoCo, He et al. 2020, eq. 1): mean over the anchors.

    anchor, positive: f32[B, D]; queue: f32[K, D]; valid: bool[K], False for places of the queue to leave out.
    Cross-entropy of B rows of 1 + K cosines / temperature, without a factor 2 * temperature. With an empty queue it
    is 0. The positives and the queue get gradients if they need them: stop them outside.

    On many devices with the queue split along K, pass the anchors whole on every device: each then sums over its own
    part of the queue, and B numbers travel.
    """
    _check_pair("anchor", anchor, "positive", positive)
    if queue.ndim != 2 or queue.shape[1] != anchor.shape[1]:
        raise ValueError(f"queue of shape {queue.shape} does not fit anchors of shape {anchor.shape}")
    anchor, positive, queue = l2_normalise(anchor), l2_normalise(positive), l2_normalise(queue)
    positive_logit = jnp.sum(anchor * positive, axis=1) / temperature
    negative_logits = anchor @ queue.T / temperature
    if valid is not None:
        negative_logits = jnp.where(valid[None], negative_logits, MASKED)
    total = jnp.logaddexp(positive_logit, logsumexp(negative_logits, axis=1))
    return jnp.mean(total - positive_logit)


def nt_xent(z1: Array, z2: Array, *, temperature: Array) -> Array:
    """NT-Xent (SimCLR, Chen et al. 2020, eq. 1): mean over the 2B rows; a row's own similarity is left out.

    z1, z2: f32[B, D], two views of the same B items. google-research/simclr sums the two views' means: twice this.
    """
    _check_pair("z1", z1, "z2", z2)
    z1, z2 = l2_normalise(z1), l2_normalise(z2)
    across = z1 @ z2.T / temperature
    own = jnp.eye(z1.shape[0], dtype=bool)
    within1 = jnp.where(own, MASKED, z1 @ z1.T / temperature)
    within2 = jnp.where(own, MASKED, z2 @ z2.T / temperature)
    positive = jnp.sum(z1 * z2, axis=1) / temperature
    total1 = jnp.logaddexp(logsumexp(across, axis=1), logsumexp(within1, axis=1))
    total2 = jnp.logaddexp(logsumexp(across, axis=0), logsumexp(within2, axis=1))
    return jnp.mean(total1 + total2 - 2 * positive) / 2


def _check_pair(name: str, x: Array, other: str, y: Array) -> None:
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"{name} of shape {x.shape} and {other} of shape {y.shape} should both be [B, D]")
