"""Swin transformers: published sizes, which tokens see which, any size of image, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssljax.models import Swin, layers, swin, tpu
from ssljax.models.swin import Block, _from_windows, _windows
from ssljax.types import UserError

TINY = Swin(width=32, depths=(2, 1), window=2)


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@functools.cache
def variables(module, *shape):
    """Initial variables with noise: scales and biases too are not at one or zero."""
    init = jax.jit(functools.partial(module.init, train=False))
    v = jax.device_get(init(jax.random.PRNGKey(0), jnp.zeros(shape or (1, 16, 16, 3))))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), v)


@functools.partial(jax.jit, static_argnums=0)
def embed(encoder, v, x):
    return encoder.apply(v, x, train=False)


def parameters(encoder):
    init = functools.partial(encoder.init, train=True)
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


# timm's and torchvision's models without `head`
@pytest.mark.parametrize("variant, count", [("T", 27_519_354), ("S", 48_837_258), ("B", 86_743_224)])
def test_published_numbers_of_parameters(variant, count):
    assert parameters(Swin(variant=variant)) == count


@pytest.mark.parametrize("size", [(16, 16), (20, 12), (17, 30), (4, 4)])
def test_images_of_any_size(size):
    y = embed(TINY, variables(TINY), images(2, *size, 3))
    assert y.shape == (2, TINY.features) == (2, 64) and y.dtype == jnp.float32 and np.isfinite(y).all()


def test_windows_and_back():
    x = images(2, 4, 6, 3)
    windows = _windows(x, (2, 3))
    np.testing.assert_array_equal(windows[1], x[0, :2, 3:].reshape(6, 3))
    np.testing.assert_array_equal(_from_windows(windows, x.shape, (2, 3)), x)


def seen(size, window, shift, row, column):
    """bool[H, W]: the tokens on which a block's result at (row, column) depends."""
    block, x = Block(window, shift), images(1, *size, 32)
    v = variables(block, *x.shape)
    gradient = jax.jit(jax.grad(lambda x: (block.apply(v, x, False)[0, row, column] ** 2).sum()))(x)
    return np.abs(gradient[0]).max(axis=-1) > 0


def box(size, rows, columns):
    expected = np.zeros(size, bool)
    expected[rows, columns] = True
    return expected


@pytest.mark.parametrize(
    "size, shift, token, rows, columns",
    [
        ((6, 6), 0, (1, 3), slice(0, 3), slice(3, 6)),  # windows of 3
        ((6, 6), 1, (1, 3), slice(1, 4), slice(1, 4)),  # they begin at 1
        ((6, 6), 1, (0, 5), slice(0, 1), slice(4, 6)),  # what comes round does not see what it meets
        ((6, 6), 1, (0, 0), slice(0, 1), slice(0, 1)),
        ((5, 6), 0, (4, 0), slice(3, 5), slice(0, 3)),  # a row of padding
        ((5, 7), 1, (4, 6), slice(4, 5), slice(4, 7)),
        ((2, 6), 1, (0, 2), slice(0, 2), slice(1, 4)),  # lower than a window: shifted to the right only
        ((2, 3), 1, (0, 2), slice(0, 2), slice(0, 3)),  # one window
    ],
)
def test_a_token_sees_its_window_and_nothing_else(size, shift, token, rows, columns):
    np.testing.assert_array_equal(seen(size, 3, shift, *token), box(size, rows, columns))


def test_position_biases_are_of_offsets():
    block = Block(3, 0)
    x = images(1, 3, 3, 32)
    v = variables(block, *x.shape)

    def used(row, column):
        loss = lambda v, x: (block.apply(v, x, False)[0, row, column] ** 2).sum()  # noqa: E731
        gradient = jax.jit(jax.grad(loss))(v, x)["params"]["position_bias"]
        return np.abs(gradient.reshape(5, 5)) > 0

    np.testing.assert_array_equal(used(0, 0), box((5, 5), slice(0, 3), slice(0, 3)))
    np.testing.assert_array_equal(used(2, 1), box((5, 5), slice(2, 5), slice(1, 4)))


def test_images_of_a_batch_are_independent():
    v, x = variables(TINY), images(3, 20, 12, 3)
    np.testing.assert_allclose(embed(TINY, v, x)[1:2], embed(TINY, v, x[1:2]), atol=1e-5)


def test_a_map_smaller_than_a_window_is_one_window():
    """Larger windows give the same if their biases agree for the offsets that the map has."""
    x = images(1, 2, 2, 32)
    small, large = Block(2, 0), Block(4, 2)
    v = variables(small, *x.shape)
    table = jnp.pad(v["params"]["position_bias"].reshape(3, 3, 1), ((2, 2), (2, 2), (0, 0)), constant_values=9.0)
    wide = {"params": v["params"] | {"position_bias": table.reshape(49, 1)}}
    np.testing.assert_allclose(embed(large, wide, x), embed(small, v, x), atol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def gradient(encoder, params, x):
    rngs = {"drop_path": jax.random.PRNGKey(1)}
    return jax.grad(lambda p: (encoder.apply({"params": p}, x, train=True, rngs=rngs) ** 3).mean())(params)


def assert_close(a, b):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), a, b)


@pytest.mark.slow
def test_remat_loops_and_eight_devices_change_nothing():
    encoder = TINY.clone(drop_path=0.5, depths=(1, 4))
    params, x = variables(encoder)["params"], images(8, 16, 16, 3)
    plain = gradient(encoder, params, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        assert np.isfinite(leaf).all() and np.any(leaf), path
    assert_close(gradient(encoder.clone(remat="block"), params, x), plain)
    assert_close(gradient(encoder.clone(remat="dots", scan=True), params, x), plain)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    assert_close(gradient(encoder, params, jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))), plain)


@pytest.mark.parametrize("size, window", [((14, 14), 3), ((40, 40), 7), ((4, 4), 2)])
def test_windows_that_the_kernel_for_tpus_finds_are_the_same(size, window, monkeypatch):
    """A map that is padded; one that is read row by row of windows; one so small that images are read together."""
    monkeypatch.setattr(tpu.pl, "pallas_call", functools.partial(tpu.pl.pallas_call, interpret=True))
    block = Block(window, window // 2)
    x, v = images(4, *size, 32).astype(jnp.bfloat16), variables(block, 1, *size, 32)

    def run(v, x):
        y, vjp = jax.vjp(lambda v, x: block.apply(v, x, False), v, x)
        return y, vjp(jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))

    plain = jax.jit(run)(v, x)
    for module in (swin, layers):
        monkeypatch.setattr(module, "target_platform", lambda: "tpu")
    traced = jax.jit(lambda v, x: run(v, x)).trace(v, x)
    assert str(traced.jaxpr).count("pallas_call") == 2
    fast = traced.lower().compile()(v, x)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(fast), jax.tree.leaves(plain), strict=True):
        name, a, b = jax.tree_util.keystr(path), np.asarray(a, np.float32), np.asarray(b, np.float32)
        scale = 1 if "['key']['bias']" in name else np.abs(b).max()  # by the keys' bias it is zero, up to rounding
        np.testing.assert_allclose(a, b, atol=0.03 * scale, err_msg=name)


def test_drop_path_needs_training_and_an_rng():
    encoder = TINY.clone(drop_path=0.9)
    v, x, rngs = variables(TINY), images(4, 16, 16, 3), {"drop_path": jax.random.PRNGKey(1)}
    apply = jax.jit(functools.partial(encoder.apply, train=True))
    whole = embed(encoder, v, x)
    np.testing.assert_array_equal(apply(v, x), whole)
    assert np.abs(apply(v, x, rngs=rngs) - whole).max() > 1e-3


def test_bfloat16_is_near_float32():
    v, x = variables(TINY), images(4, 16, 16, 3)
    exact, near = embed(TINY, v, x), embed(TINY.clone(dtype="bfloat16"), v, x)
    assert near.dtype == jnp.float32 and np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (Swin(variant="L"), "^variant=L"),
        (TINY.clone(width=48), "^width=48"),
        (TINY.clone(depths=(1, 0)), r"^depths=\(1, 0\)"),
        (TINY.clone(window=0), "^window=0"),
        (TINY.clone(drop_path=-0.1), "^drop_path=-0.1"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        parameters(encoder)
