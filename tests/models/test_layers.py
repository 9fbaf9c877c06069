"""Layers of vision transformers: rotary positions, and feed-forward layers of each kind."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.layers import FeedForward, rotate


def tokens(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_rotated_queries_and_keys_meet_by_their_offset_alone():
    """The same vectors at all places: their products depend on rows and columns between them, in all of the heads."""
    q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 16)).astype(np.float32)
    q, k = (np.asarray(rotate(jnp.asarray(np.tile(x, (1, 13, 1))), 2, (3, 4))).reshape(13, 2, 8) for x in (q, k))
    products = np.einsum("qhc,khc->hqk", q[1:], k[1:]).reshape(2, 3, 4, 3, 4)
    np.testing.assert_allclose(products[:, 0, 0, 1, 2], products[:, 1, 1, 2, 3], atol=1e-5)
    assert np.abs(products[:, 0, 0, 1, 2] - products[:, 0, 0, 2, 1]).min() > 1e-3


def test_rotation_turns_patches_and_nothing_else():
    x = tokens(2, 14, 16)
    y = rotate(x, 2, (3, 4))
    np.testing.assert_array_equal(y[:, :2], x[:, :2])  # [CLS] and a register
    np.testing.assert_allclose(jnp.square(y).sum(axis=-1), jnp.square(x).sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(rotate(x[:, :9], 2, (3, 3))[:, 4], x[:, 4], atol=1e-6)  # the center of the image
    assert np.abs(y[:, 2:] - x[:, 2:]).max() > 0.1


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "swiglu"])
def test_feed_forward_layers(kind):
    x, layer = tokens(3, 4), FeedForward(6, kind)
    v = jax.tree.map(lambda leaf: leaf + 0.5, jax.jit(layer.init)(jax.random.PRNGKey(0), x))

    def linear(x, name):
        return np.asarray(x) @ np.asarray(v["params"][name]["kernel"]) + np.asarray(v["params"][name]["bias"])

    y = linear(x, "linear1")
    if kind == "swiglu":
        y = y * linear(x, "gate") / (1 + np.exp(-linear(x, "gate")))
    elif kind == "gelu":
        y = y * np.vectorize(lambda y: 0.5 * (1 + math.erf(y / 2**0.5)))(y)
    else:
        y = y * 0.5 * (1 + np.tanh((2 / np.pi) ** 0.5 * (y + 0.044715 * y**3)))
    np.testing.assert_allclose(jax.jit(layer.apply)(v, x), linear(y, "linear2"), atol=1e-5)
