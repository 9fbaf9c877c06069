"""Cross-entropy: with soft targets, and with attributes that are known of some items only."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_softmax, logsumexp

from ssljax.losses.checks import array_of, check_array, check_labels
from ssljax.types import Array


def masked_attributes(logits: Sequence[Array], attributes: Array | np.ndarray) -> Array:
    """Cross-entropy of each attribute, mean over the items that have it, then over the A attributes, f32[].

    logits: A arrays f32[B, V_a], one an attribute, as the attributes differ in their number of values; attributes:
    i32[B, A], -1 where it is missing. An attribute that the batch lacks counts, with a loss of 0. Values that are none
    are refused, or give NaN, as `ssljax.losses.checks` has it.
    """
    logits, attributes = [check_array("logits", x) for x in logits], array_of("attributes", attributes)
    shapes = [x.shape for x in logits]
    if attributes.ndim != 2 or [len(shape) for shape in shapes] != [2] * attributes.shape[1] or not shapes:
        raise ValueError(
            f"logits of shapes {shapes} and attributes of shape {attributes.shape} should be [B, V], [B, A]"
        )
    if any(shape[0] != attributes.shape[0] for shape in shapes):
        raise ValueError(f"logits of shapes {shapes} have another batch than attributes of shape {attributes.shape}")
    attributes, sound = check_labels("attributes", attributes, [x.shape[1] for x in logits])
    losses = []
    for scores, values in zip(logits, attributes.T, strict=True):
        known = values >= 0
        log_p = log_softmax(sound * jnp.asarray(scores, jnp.float32))
        chosen = jnp.take_along_axis(log_p, jnp.where(known, values, 0)[:, None], axis=1)[:, 0]
        losses.append(-jnp.sum(jnp.where(known, chosen, 0)) / jnp.maximum(jnp.sum(known), 1))
    return sound * sum(losses) / len(losses)


@jax.custom_vjp
def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """f32[...], -sum_k targets_k log softmax(logits)_k; the targets get no gradient.

    logits: f32[..., K]; targets: f32[..., K], or of a shape that fits by broadcasting. With 65,536 prototypes these
    arrays are the largest of a step: the backward pass makes the probabilities again and keeps none.
    """
    return _cross_entropy(logits, targets)[0]


def _cross_entropy(logits: Array, targets: Array) -> tuple[Array, tuple[Array, ...]]:
    total, mass = logsumexp(logits, axis=-1), jnp.sum(targets, axis=-1)
    return mass * total - jnp.sum(targets * logits, axis=-1), (logits, targets, total, mass)


def _cross_entropy_gradient(saved: tuple[Array, ...], g: Array) -> tuple[Array, None]:
    logits, targets, total, mass = saved
    softmax = jnp.exp(logits - total[..., None])
    return g[..., None] * (mass[..., None] * softmax - targets), None


soft_cross_entropy.defvjp(_cross_entropy, _cross_entropy_gradient)
