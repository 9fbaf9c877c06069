"""EfficientNets: published sizes, shapes, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import EfficientNet
from ssljax.types import UserError

TINY = EfficientNet(width=0.1, depth=0.1)  # one block a stage


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
    "variant, count, features",
    [
        ("B0", 4_007_548, 1280),
        ("B1", 6_513_184, 1280),
        ("B2", 7_700_994, 1408),
        ("B3", 10_696_232, 1536),
        ("B4", 17_548_616, 1792),
    ],
)
def test_published_numbers_of_parameters(variant, count, features):
    encoder = EfficientNet(variant=variant)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(encoder, 2, 64, 64, 3)["params"])) == count
    assert encoder.features == features


@functools.partial(jax.jit, static_argnums=(0, 3))
def train(encoder, params, x, rng=None):
    """The features, new statistics, and the parameters' gradient of a training step."""

    def loss(params):
        v, rngs = variables() | {"params": params}, {} if rng is None else {"drop_path": jax.random.PRNGKey(rng)}
        y, updated = encoder.apply(v, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return (y**2).mean(), (y, updated)

    (_, (y, updated)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return y, updated, gradient


def assert_close(a, b, tolerance=1e-3):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), a, b)


def test_a_training_step_and_remat():
    x = images(4, 32, 32, 3)
    y, updated, gradient = train(TINY, variables()["params"], x)
    assert y.shape == (4, TINY.features) == (4, 128) and y.dtype == jnp.float32
    assert not np.allclose(updated["batch_stats"]["stem_norm"]["mean"], variables()["batch_stats"]["stem_norm"]["mean"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf), path
    assert_close(train(TINY.clone(remat=True), variables()["params"], x)[2], gradient)


def test_statistics_over_groups_are_those_of_each_group_alone():
    x = images(4, 32, 32, 3)
    grouped, _, _ = train(TINY.clone(norm_groups=2), variables()["params"], x)
    apart = [train(TINY, variables()["params"], part)[0] for part in (x[:2], x[2:])]
    assert_close(grouped, jnp.concatenate(apart))


def test_bfloat16_is_near_float32():
    v, x = variables(), images(4, 32, 32, 3)
    exact, near = (
        jax.jit(functools.partial(TINY.clone(dtype=dtype).apply, train=False))(v, x)
        for dtype in ("float32", "bfloat16")
    )
    assert near.dtype == jnp.float32 and np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


def test_drop_path_needs_an_rng():
    encoder = EfficientNet(width=0.1, depth=0.6, drop_path=0.9)  # with a second block in some stages
    x = images(2, 32, 32, 3)
    v = jax.jit(functools.partial(encoder.init, train=False))(jax.random.PRNGKey(0), x)

    @functools.partial(jax.jit, static_argnums=0)
    def features(drop_path, rngs):
        return encoder.clone(drop_path=drop_path).apply(v, x, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    none = features(0.0, {})
    np.testing.assert_array_equal(features(0.9, {}), none)
    assert np.abs(features(0.9, {"drop_path": jax.random.PRNGKey(0)}) - none).max() > 1e-4


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (EfficientNet(variant="B9"), "^variant=B9"),
        (TINY.clone(width=0.0), "^width=0.0"),
        (TINY.clone(norm_groups=3), "^norm_groups=3"),
        (TINY.clone(drop_path=1.5), "^drop_path=1.5"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        shapes(encoder, 4, 32, 32, 3)
