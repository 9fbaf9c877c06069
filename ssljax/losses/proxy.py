"""Losses of labelled embeddings against a learnt vector of each class: its weight, or proxy.

Embeddings and class vectors are L2-normalised inside. Labels are classes, 0 .. C - 1; items with a label of -1 are left
out, and without any item the loss is 0, with a gradient of 0; what else is no label is refused, or gives NaN
(`ssljax.losses.checks`). When the class vectors are split over devices along the
classes they stay where they are: embeddings travel.
"""

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from ssljax.losses.blockwise import MASKED, logsumexp_of_products
from ssljax.losses.checks import check_array, check_features, check_labelled
from ssljax.losses.normalise import l2_normalise, safe_sqrt
from ssljax.losses.pairs import Pairs, References, mean_of_counted, of_anchors
from ssljax.sharding import device_count, on_own_share, replicate, split_columns
from ssljax.types import Array, Scalar


def arcface(z: Array, weights: Array, labels: Array, *, scale: Scalar, margin: Scalar) -> Array:
    """ArcFace (Deng et al. 2019, eq. 3): cross-entropy of scale * cosine, with a margin on the angle, f32[].

    z: f32[B, D]; weights: f32[C, D]; labels: i32[B]; margin: radians, f32[] or f32[C], a margin of its own for each
    class; published with a scale of 64 and a margin of .5. The cosine of the item's own class, cos(theta), becomes
    cos(theta + margin), or cos(theta) - margin sin(margin) where theta > pi - margin: falling in theta throughout.
    Mean over the items. Memory grows with B + C.
    """
    z, weights, labels, sound = _checked(z, weights, labels)
    target = _with_angular_margin(_own_cosine(z, weights, labels), _margin_of(labels, margin, weights))
    return sound * _cross_entropy(z, weights, labels, scale, target)


def cosface(z: Array, weights: Array, labels: Array, *, scale: Scalar, margin: Scalar) -> Array:
    """CosFace (Wang et al. 2018, eq. 4): cross-entropy of scale * cosine, less a margin in the item's own class, f32[].

    z: f32[B, D]; weights: f32[C, D]; labels: i32[B]; margin: a cosine, f32[] or f32[C], a margin of its own for each
    class; published with a scale of 64 and a margin of .35. Mean over the items. Memory grows with B + C.
    """
    z, weights, labels, sound = _checked(z, weights, labels)
    target = _own_cosine(z, weights, labels) - _margin_of(labels, margin, weights)
    return sound * _cross_entropy(z, weights, labels, scale, target)


def sub_center_arcface(z: Array, weights: Array, labels: Array, *, scale: Scalar, margin: Scalar) -> Array:
    """Sub-center ArcFace (Deng et al. 2020, section 3): ArcFace with the nearest of K centers of each class, f32[].

    z: f32[B, D]; weights: f32[C, K, D], published with K = 3; the rest as `arcface`.
    """
    weights = check_array("weights", weights)
    if weights.ndim != 3:
        raise ValueError(f"weights of shape {weights.shape} for z of shape {z.shape} should be [C, K, D]")
    classes, centers, features = weights.shape
    z, labels, sound = check_labelled("z", z, labels, classes)
    missing = -classes % device_count()  # so that no class is split between devices, which would make its logits travel
    padded = jnp.pad(weights, ((0, missing), (0, 0), (0, 0)))
    names = jnp.pad(jnp.arange(classes), (0, missing), constant_values=-1)
    references = References(
        l2_normalise(padded).reshape(-1, features), jnp.repeat(names, centers), jnp.full(labels.shape, -1)
    )

    def rows(pairs: Pairs) -> tuple[Array, Array]:
        own, other, product = (
            x.reshape(-1, classes + missing, centers) for x in (pairs.positive, pairs.negative, pairs.product)
        )
        own, other, nearest = own[..., 0], other[..., 0], jnp.max(product, axis=2)
        others = logsumexp(jnp.where(other, scale * nearest, MASKED), axis=1)
        return jnp.sum(jnp.where(own, nearest, 0), axis=1), others

    cosine, others = of_anchors(rows, l2_normalise(z), labels, references)
    target = scale * _with_angular_margin(cosine, _margin_of(labels, margin, weights))
    return sound * mean_of_counted(jnp.where(labels >= 0, jax.nn.softplus(others - target), 0), labels >= 0)


def proxy_nca(z: Array, proxies: Array, labels: Array) -> Array:
    """Proxy-NCA (Movshovitz-Attias et al. 2017, algorithm 1), mean over the items, f32[].

    z: f32[B, D]; proxies: f32[C, D]; labels: i32[B]. -log softmax of the squared distances, negated, over all proxies,
    the item's own among them, as in pytorch-metric-learning (the paper's sum leaves it out).
    """
    return cosface(z, proxies, labels, scale=2.0, margin=0.0)  # -d^2 = 2 cos - 2, and softmax takes no notice of the 2


def proxy_anchor(z: Array, proxies: Array, labels: Array, *, scale: Scalar, margin: Scalar) -> Array:
    """Proxy-Anchor (Kim et al. 2020, eq. 4), f32[].

    z: f32[B, D]; proxies: f32[C, D]; labels: i32[B]; margin: a cosine; published with a scale of 32 and a margin of .1.
    log(1 + sum exp(-scale (cos - margin))) over each class's items, mean over the classes that have any; plus
    log(1 + sum exp(scale (cos + margin))) over the items of other classes, mean over all classes. Makes B x C cosines.
    """
    z, proxies, labels, sound = _checked(z, proxies, labels)
    z, proxies = replicate(l2_normalise(z)), l2_normalise(proxies)
    cosine = split_columns(jnp.matmul(z, proxies.T, precision="highest"))
    own = labels[:, None] == jnp.arange(proxies.shape[0])[None]
    others = ~own & (labels[:, None] >= 0)
    attract = logsumexp(jnp.where(own, -scale * (cosine - margin), MASKED), axis=0)
    repel = logsumexp(jnp.where(others, scale * (cosine + margin), MASKED), axis=0)
    attraction = mean_of_counted(jax.nn.softplus(attract), jnp.any(own, axis=0))
    return sound * (attraction + jnp.mean(jax.nn.softplus(repel)))


def _own_cosine(z: Array, weights: Array, labels: Array) -> Array:
    """f32[B], of each item with the weights of its class."""

    def part(axes: tuple[str, ...], rows: tuple[Array, Array], weights: Array) -> tuple[Array, tuple[()]]:
        z, labels = rows
        place = labels - jax.lax.axis_index(axes) * weights.shape[0] if axes else labels
        here = (place >= 0) & (place < weights.shape[0])
        own = l2_normalise(weights[jnp.where(here, place, 0)])
        cosine = jnp.where(here, jnp.sum(z * own, axis=1), 0)
        return (jax.lax.psum(cosine, axes) if axes else cosine), ()

    return on_own_share(part, (l2_normalise(z), labels), weights)[0]


def _with_angular_margin(cosine: Array, margin: Scalar) -> Array:
    """cos(theta + margin), continued where theta + margin > pi; margin: f32[] or f32[B], radians."""
    # By the angle sum: no arccos. The sine's gradient is 0 where theta is 0 or pi, and finite next to it.
    sine = safe_sqrt(1 - cosine**2)
    within = cosine >= -jnp.cos(margin)
    return jnp.where(within, cosine * jnp.cos(margin) - sine * jnp.sin(margin), cosine - margin * jnp.sin(margin))


def _margin_of(labels: Array, margin: Scalar, weights: Array) -> Array:
    """The margin f32[], or each item's f32[B] of margins f32[C]."""
    margin = jnp.asarray(margin, jnp.float32)
    if margin.shape not in ((), weights.shape[:1]):
        raise ValueError(f"margin of shape {margin.shape} for weights of shape {weights.shape} should be [] or [C]")
    return jnp.where(labels >= 0, margin[labels], 0) if margin.ndim else margin


def _cross_entropy(z: Array, weights: Array, labels: Array, scale: Scalar, target: Array) -> Array:
    """Mean over the items of log(1 + sum exp(scale (cos_j - target))), the sum over the classes other than the own."""
    classes = jnp.arange(weights.shape[0])
    others = logsumexp_of_products(scale * l2_normalise(z), l2_normalise(weights), row_ids=labels, column_ids=classes)
    return mean_of_counted(jnp.where(labels >= 0, jax.nn.softplus(others - scale * target), 0), labels >= 0)


def _checked(z: Array, weights: Array, labels: Array) -> tuple[Array, Array, Array, Array]:
    """The three as arrays, and the factor of `check_labels`."""
    weights = check_array("class vectors", weights)
    z, labels, sound = check_labelled("z", z, labels, *weights.shape[:1])
    return z, check_features("class vectors", weights, "z", z), labels, sound
