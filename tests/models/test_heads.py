"""DINO's head, SwAV's prototypes and the decoder: sizes, cosines, and what they do not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import Decoder, DINOHead, Prototypes
from ssljax.types import UserError

HEAD = DINOHead(hidden=(32, 24), bottleneck=8, out=16)


def init(module, *shape):
    return jax.jit(functools.partial(module.init, train=False))(jax.random.PRNGKey(0), jnp.zeros(shape))


def vectors(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_dinos_head_has_the_paper_s_parameters():
    def size(head):
        v = jax.eval_shape(functools.partial(head.init, train=True), jax.random.PRNGKey(0), jnp.zeros((2, 384)))
        return sum(leaf.size for leaf in jax.tree.leaves(v))

    assert size(HEAD) == 384 * 32 + 32 + 32 * 24 + 24 + 24 * 8 + 8 + 8 * 16
    assert size(DINOHead()) == 384 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256 + 256 * 65536


@pytest.mark.parametrize("module", [HEAD, Prototypes(out=16), Prototypes(out=16, dtype="bfloat16")])
def test_results_are_cosines(module):
    x = 100 * vectors(64, 12)
    y = jax.jit(functools.partial(module.apply, train=True))(init(module, 2, 12), x)
    assert y.shape == (64, 16) and y.dtype == jnp.float32 and np.abs(y).max() < 1.01 and np.abs(y).max() > 0.2


def test_prototypes_are_cosines_to_their_columns_whatever_their_length():
    module, x = Prototypes(out=3), vectors(2, 4)
    kernel = vectors(4, 3)
    cosines = np.asarray(x @ kernel) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(kernel, axis=0))
    for length in (1.0, 7.0):
        y = module.apply({"params": {"kernel": length * kernel}}, x, train=True)
        np.testing.assert_allclose(y, cosines, atol=1e-6)


def test_the_gradient_of_prototypes_does_not_change_their_length():
    module, x, v = Prototypes(out=3), vectors(5, 4), {"params": {"kernel": vectors(4, 3)}}
    gradient = jax.jit(jax.grad(lambda v: (module.apply(v, x, train=True) ** 2).sum()))(v)["params"]["kernel"]
    np.testing.assert_allclose((gradient * v["params"]["kernel"]).sum(axis=0), 0, atol=1e-6)


def test_zeros_give_finite_gradients():
    v = init(HEAD, 2, 12)
    gradient = jax.jit(jax.grad(lambda x: HEAD.apply(v, x, train=True).sum()))(jnp.zeros((2, 12)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "module, sentence",
    [
        (HEAD.clone(bottleneck=0), "^bottleneck=0"),
        (HEAD.clone(out=0), "^out=0"),
        (HEAD.clone(hidden=(3, 0)), r"^hidden=\(3, 0\)"),
    ],
)
def test_what_cannot_work_is_refused(module, sentence):
    with pytest.raises(UserError, match=sentence):
        init(module, 2, 12)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_decoder_makes_images_of_its_side(side):
    module = Decoder(side=side, width=8)
    y, _ = jax.eval_shape(lambda: module.init_with_output(jax.random.PRNGKey(0), jnp.ones((3, 5)), train=True))
    assert y.shape == (3, side, side, 3) and y.dtype == jnp.float32


@pytest.mark.parametrize("settings", [{"side": 12}, {"side": 2}, {"width": 0}])
def test_decoder_refuses_sizes_that_cannot_be(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        jax.eval_shape(lambda: Decoder(**settings).init(jax.random.PRNGKey(0), jnp.ones((3, 5)), train=True))
