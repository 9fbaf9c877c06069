"""EfficientNets: published sizes, shapes, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import EfficientNet
from ssljax.models.efficientnet import MBConv
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
        ("lite0", 3_371_008, 1280),
        ("lite1", 4_135_680, 1280),
        ("lite2", 4_811_072, 1280),
        ("lite3", 6_916_096, 1280),
        ("lite4", 11_725_568, 1280),
    ],
)
def test_published_numbers_of_parameters(variant, count, features):
    encoder = EfficientNet(variant=variant)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(encoder, 2, 64, 64, 3)["params"])) == count
    assert encoder.features == features


def forward(encoder, params, x):
    """The features and new statistics of a training step."""
    return encoder.apply(variables() | {"params": params}, x, train=True, mutable=["batch_stats"])


@functools.partial(jax.jit, static_argnums=0)
def gradient(encoder, params, x):
    def loss(params):
        y, updated = forward(encoder, params, x)
        return (y**2).mean(), updated["batch_stats"]

    return jax.grad(loss, has_aux=True)(params)


def assert_close(a, b, tolerance=1e-3):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.slow
def test_a_training_step_and_remat():
    params, x = variables()["params"], images(4, 32, 32, 3)
    plain, stats = gradient(TINY, params, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        assert np.isfinite(leaf).all() and np.any(leaf), path
    assert not np.allclose(stats["stem_norm"]["mean"], variables()["batch_stats"]["stem_norm"]["mean"])
    assert_close(gradient(TINY.clone(remat="dots"), params, x)[0], plain)


def test_statistics_over_groups_are_those_of_each_group_alone():
    params, x = variables()["params"], images(12, 32, 32, 3)  # of fewer, some channels have next to no variance
    features = jax.jit(lambda encoder, x: forward(encoder, params, x)[0], static_argnums=0)
    grouped = features(TINY.clone(norm_groups=2), x)
    assert grouped.shape == (12, TINY.features) == (12, 128)
    assert_close(grouped, jnp.concatenate([features(TINY, x[:6]), features(TINY, x[6:])]))


def test_bfloat16_is_near_float32():
    v, x = variables(), images(4, 32, 32, 3)
    exact, near = (
        jax.jit(functools.partial(TINY.clone(dtype=dtype).apply, train=False))(v, x)
        for dtype in ("float32", "bfloat16")
    )
    assert near.dtype == jnp.float32 and np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


def test_drop_path_leaves_the_identity():
    block, x = MBConv(width=8, size=3, stride=1, expansion=2, norm_groups=1), images(16, 4, 4, 8)
    v = jax.jit(functools.partial(block.init, train=False))(jax.random.PRNGKey(0), x)
    apply = jax.jit(functools.partial(block.apply, train=True, mutable=["batch_stats"]))
    whole, _ = apply(v, x)
    some, _ = apply(v, x, factors=2.0 * jnp.tile(jnp.arange(16) % 2, (2, 1)))
    left_out = np.isclose(some, x).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(left_out, np.arange(16) % 2 == 0)
    kept = ~left_out
    np.testing.assert_allclose((some - x)[kept], 2 * (whole - x)[kept], atol=1e-4)


def test_a_lite_network_on_a_grid_of_cells_has_features_of_each():
    encoder = EfficientNet("lite0", width=0.1, depth=0.1)
    x = images(2, 64, 64, 3)
    v = jax.jit(functools.partial(encoder.init, train=False))(jax.random.PRNGKey(0), x)
    once, cells = (encoder.clone(pool=pool).apply(v, x, train=False) for pool in (1, 2))
    assert once.shape == (2, 1280) and cells.shape == (2, 4 * 1280) == (2, encoder.clone(pool=2).features)
    np.testing.assert_allclose(cells.reshape(2, 4, -1).mean(axis=1), once, atol=1e-5)
    assert once.min() >= 0 and once.max() <= 6
    assert "squeeze_excite" not in v["params"]["stage2_block1"]


def test_levels_join_the_maps_of_earlier_stages_each_of_unit_length():
    encoder = EfficientNet("lite0", width=0.1, depth=0.1)
    joined, x = encoder.clone(levels=((5, 2), (3, 3), (3, 1))), images(2, 64, 64, 3)
    v = jax.jit(functools.partial(joined.init, train=False))(jax.random.PRNGKey(0), x)
    y, last = joined.apply(v, x, train=False), encoder.apply(v, x, train=False)
    assert y.shape == (2, joined.features) and joined.parts == (9 * 8, 8, 4 * 16, 1280)  # in the network's order
    for part in np.split(y, np.cumsum(joined.parts)[:-1], axis=1):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(y[:, -1280:], last / np.linalg.norm(last, axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_conventions_change_the_padding_and_the_norm_but_no_variable():
    v, x = variables(), images(2, 32, 32, 3)
    torch, tensorflow = (TINY.clone(conventions=conventions) for conventions in ("torch", "tensorflow"))
    assert jax.tree.structure(shapes(tensorflow, 2, 32, 32, 3)) == jax.tree.structure(v)
    default, first, second = (encoder.apply(v, x, train=False) for encoder in (TINY, torch, tensorflow))
    np.testing.assert_array_equal(default, first)
    assert np.abs(first - second).max() > 0.1 * np.abs(first).max()


def test_preprocessing_is_that_of_the_published_weights():
    lite, plain = EfficientNet("lite2").preprocessing, EfficientNet("B4").preprocessing
    assert (lite.size, lite.mean[0] * 255, lite.std[0] * 255) == (260, 127, 128)
    assert plain.size == 380 and plain.mean == (0.485, 0.456, 0.406)
    assert plain.share == pytest.approx(0.922, abs=1e-3)  # timm's crop_pct


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (EfficientNet(variant="B9"), "^variant=B9"),
        (TINY.clone(width=0.0), "^width=0.0"),
        (TINY.clone(conventions="jax"), "^conventions=jax"),
        (TINY.clone(pool=0), "^pool=0"),
        (TINY.clone(levels=((8, 1),)), r"^levels=\(\(8, 1\),\) must be pairs of a stage, 1 to 7, and a side"),
        (TINY.clone(levels=((3, 5),)), r"^levels=\(\(3, 5\),\) has a grid of 5, which is more than its map's 4 x 4"),
        (TINY.clone(pool=2), "^pool=2 is more than the last map's 1 x 1"),
        (TINY.clone(norm_groups=3), "^norm_groups=3"),
        (TINY.clone(drop_path=1.5), "^drop_path=1.5"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        shapes(encoder, 4, 32, 32, 3)
