"""ConvNeXts: published sizes, shapes, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import ConvNeXt
from ssljax.types import UserError

TINY = ConvNeXt(width=8, depths=(2, 3), layer_scale=0.5)


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@functools.cache
def variables():
    return jax.jit(functools.partial(TINY.init, train=False))(jax.random.PRNGKey(0), jnp.zeros((1, 32, 32, 3)))


def shapes(encoder, *shape):
    init = functools.partial(encoder.init, train=True)
    return jax.eval_shape(init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct(shape, jnp.float32))


# timm's and torchvision's models without their classifier
@pytest.mark.parametrize(
    "variant, count, features", [("T", 27_820_128, 768), ("S", 49_454_688, 768), ("B", 87_566_464, 1024)]
)
def test_published_numbers_of_parameters(variant, count, features):
    encoder = ConvNeXt(variant)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(encoder, 2, 64, 64, 3)["params"])) == count
    assert encoder.features == features


@functools.partial(jax.jit, static_argnums=0)
def gradient(encoder, params, x):
    return jax.grad(lambda params: (encoder.apply({"params": params}, x, train=True)[:, :8] ** 2).mean())(params)


@pytest.mark.parametrize("changed", [{"remat": "block"}, {"remat": "dots"}, {"scan": True}])
def test_remat_and_scan_change_no_gradient(changed):
    params, x = variables()["params"], images(4, 32, 32, 3)
    plain, other = gradient(TINY, params, x), gradient(TINY.clone(**changed), params, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        assert np.isfinite(leaf).all() and np.any(leaf), path
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), plain, other)


def test_bfloat16_is_near_float32():
    v, x = variables(), images(4, 32, 32, 3)
    exact, near = (
        jax.jit(functools.partial(TINY.clone(dtype=dtype).apply, train=False))(v, x)
        for dtype in ("float32", "bfloat16")
    )
    assert near.dtype == jnp.float32 and np.abs(exact - near).max() < 0.1 * np.abs(exact).max()


def test_drop_path_is_for_students_in_training():
    encoder, v, x = TINY.clone(drop_path=0.9), variables(), images(4, 32, 32, 3)
    rngs = {"drop_path": jax.random.PRNGKey(0)}
    whole = TINY.apply(v, x, train=False)
    np.testing.assert_array_equal(encoder.apply(v, x, train=False, rngs=rngs), whole)
    np.testing.assert_array_equal(encoder.apply(v, x, train=True), whole)
    assert np.abs(encoder.apply(v, x, train=True, rngs=rngs) - whole).max() > 1e-2


def test_what_does_not_fill_a_patch_is_cut_off():
    v, x = variables(), images(2, 35, 39, 3)
    np.testing.assert_allclose(
        TINY.apply(v, x, train=False), TINY.apply(v, x[:, :32, :36], train=False), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (ConvNeXt("XL"), "^variant=XL"),
        (TINY.clone(width=0), "^width=0"),
        (TINY.clone(depths=()), "^depths="),
        (TINY.clone(drop_path=1.5), "^drop_path=1.5"),
        (TINY.clone(depths=(1, 1, 1, 1, 1)), "^images of 32 x 32 px are too small"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        shapes(encoder, 4, 32, 32, 3)
