"""The fast forms for TPUs, interpreted on a CPU, against the plain operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from target import mesh_of

from ssljax import sharding
from ssljax.models import layers, tpu
from ssljax.plan.arithmetic import arithmetic
from ssljax.sharding import BATCH_AXES, batch_sharding, make_mesh


@pytest.fixture
def interpreted(monkeypatch):
    monkeypatch.setattr(tpu.pl, "pallas_call", functools.partial(tpu.pl.pallas_call, interpret=True))


def _inputs(batch, tokens, channels, dtype=jnp.bfloat16):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(batch, tokens, channels)), dtype) for _ in range(4)]


def _value_and_gradients(attention, q, k, v, g):
    y, vjp = jax.vjp(attention, q, k, v)
    return y, *vjp(g)


@pytest.mark.parametrize(
    "batch, tokens, channels, heads", [(2, 19, 256, 4), (6, 37, 192, 3), (4, 7, 128, 1), (3, 5, 64, 4)]
)
def test_attention_equals_the_plain_one(batch, tokens, channels, heads, interpreted):
    inputs = _inputs(batch, tokens, channels)
    assert tpu.suits_attention(inputs[0], heads)
    fast = _value_and_gradients(lambda *a: tpu.attention(*a, heads=heads), *inputs)
    plain = _value_and_gradients(lambda *a: layers.attention(*a, heads), *[a.astype(jnp.float32) for a in inputs])
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == jnp.bfloat16 and a.shape == b.shape
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=1e-2 * np.abs(b).max())


@pytest.mark.parametrize(
    "batch, tokens, channels, heads, windows, masks",
    [
        (6, 18, 96, 3, 2, 2),  # two windows of 9 tokens, three heads, of which two share a register
        (4, 12, 128, 4, 3, 0),
        (4, 12, 128, 2, 3, 6),  # masks of two images
        (8, 8, 64, 2, 2, 1),
        (3, 9, 192, 6, 0, 3),  # whole items, which take turns at three masks
        (2, 70, 64, 2, 1, 0),  # a window larger than half a register
    ],
)
def test_attention_within_windows_equals_the_plain_one(batch, tokens, channels, heads, windows, masks, interpreted):
    rng, inputs = np.random.default_rng(1), _inputs(batch, tokens, channels)
    places = rng.permutation(tokens).reshape(windows, -1) if windows else None
    own = tokens // max(windows, 1)
    mask = (rng.random((masks, own, own)) < 0.5) | np.eye(own, dtype=bool) if masks else None
    bias = jnp.asarray(rng.normal(size=(heads, own, own)), jnp.float32)

    def run(attention, q, k, v, g):
        y, vjp = jax.vjp(attention, q, k, v, bias)
        return y, *vjp(g)

    assert tpu.suits_attention(inputs[0], heads, max(windows, 1))
    fast = run(lambda q, k, v, b: tpu.attention(q, k, v, b, heads=heads, mask=mask, places=places), *inputs)
    mask = None if mask is None else mask[:, None]
    exact = [x.astype(jnp.float32) for x in inputs]
    plain = run(lambda q, k, v, b: layers.attention(q, k, v, heads, b[None], mask, places), *exact)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=1.5e-2 * np.abs(b).max())


def test_attention_is_not_subject_to_the_precision_of_the_run(interpreted):
    def gradient(q, k, v, g):
        return jax.vjp(lambda *a: tpu.attention(*a, heads=2), q, k, v)[1](g)

    with jax.default_matmul_precision("float32"):  # Mosaic refuses it for bfloat16
        traced = str(jax.make_jaxpr(gradient)(*_inputs(2, 5, 128)))
    assert "dot_general" in traced and "HIGHEST" not in traced


def test_attention_on_eight_devices_moves_nothing(interpreted, monkeypatch):
    mesh = make_mesh(shards=2)
    inputs = [jax.device_put(a, batch_sharding(mesh)) for a in _inputs(16, 5, 128)]
    step = functools.partial(_value_and_gradients, lambda *a: layers.attention(*a, 2))
    plain = jax.jit(step)(*inputs)
    monkeypatch.setattr(layers, "target_platform", lambda: "tpu")
    with jax.set_mesh(mesh):
        compiled = jax.jit(lambda *a: step(*a)).lower(*inputs).compile()  # another function: no cache
    assert "all-" not in compiled.as_text() and "collective" not in compiled.as_text()
    for a, b in zip(compiled(*inputs), plain, strict=True):
        assert a.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(BATCH_AXES)), a.ndim)
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), atol=3e-2)


def test_the_gradient_of_biases_is_the_sum_over_devices(interpreted, monkeypatch):
    mesh = make_mesh(shards=2)
    q, k, v, g = _inputs(16, 8, 64)
    bias = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 4, 4)), jnp.float32)
    mask = np.random.default_rng(2).random((4, 1, 4, 4)) < 0.5  # of the windows of two items
    mask |= np.eye(4, dtype=bool)
    places = np.arange(8)[::-1].reshape(2, 4)

    def gradient(bias, q, k, v, g):
        return jax.vjp(lambda bias: layers.attention(q, k, v, 2, bias, mask, places), bias)[1](g)[0]

    plain = gradient(bias, *(x.astype(jnp.float32) for x in (q, k, v, g)))
    monkeypatch.setattr(layers, "target_platform", lambda: "tpu")
    with jax.set_mesh(mesh):
        arrays = [jax.device_put(a, batch_sharding(mesh)) for a in (q, k, v, g)]
        near = jax.jit(gradient)(jax.device_put(bias, NamedSharding(mesh, PartitionSpec())), *arrays)
    np.testing.assert_allclose(near, plain, atol=1e-2 * np.abs(plain).max())


@pytest.mark.parametrize(
    "dtype, tokens, heads, bias, fused",
    [
        (jnp.bfloat16, 37, 2, False, True),
        (jnp.float32, 37, 2, False, False),
        (jnp.bfloat16, 2000, 2, False, False),
        (jnp.bfloat16, 37, 3, False, False),
        (jnp.bfloat16, 37, 2, True, True),
    ],
)
def test_which_attention_is_compiled_for_a_tpu(dtype, tokens, heads, bias, fused):
    q = jax.ShapeDtypeStruct((8, tokens, 192 if heads == 3 else 128), dtype)
    added = jnp.zeros((1, heads, tokens, tokens)) if bias else None
    if heads == 3:
        heads = 4  # of 48 channels, which do not divide a register
    with jax.sharding.use_abstract_mesh(mesh_of("tpu")):
        traced = jax.jit(lambda q, k, v: layers.attention(q, k, v, heads, added)).trace(q, q, q)
        program = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert ("tpu_custom_call" in program) == fused
    assert (f"8x{heads}x{tokens}x{tokens}x" in program) == (not fused)


@pytest.mark.parametrize(
    "tokens, channels, heads, suits",
    [
        (197, 192, 3, True),
        (577, 384, 6, True),
        (800, 128, 2, True),
        (801, 128, 2, False),
        (800, 128, 8, False),  # 8 heads written out
        (577, 192, 3, True),
        (700, 192, 3, False),
        (197, 448, 7, False),  # its backward pass compiles for 79 s
        (577, 960, 15, False),  # and this one's does not: too large for the vector memory
    ],
)
def test_a_kernel_that_does_not_fit_the_vector_memory_is_not_chosen(tokens, channels, heads, suits):
    assert tpu.suits_attention(jnp.zeros((8, tokens, channels), jnp.bfloat16), heads) == suits


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_gelu_is_the_exact_one(dtype, tolerance):
    x = jnp.linspace(-6, 6, 1001)
    exact = jax.value_and_grad(lambda x: jax.nn.gelu(x, approximate=False).sum())
    near = jax.value_and_grad(lambda x: layers.gelu(x.astype(dtype)).astype(jnp.float32).sum())
    np.testing.assert_allclose(layers.gelu(x.astype(dtype)), jax.nn.gelu(x, approximate=False), atol=tolerance * 6)
    np.testing.assert_allclose(near(x)[1], exact(x)[1], atol=tolerance)
    assert sharding.target_platform() == "cpu"


def test_the_gradient_of_a_bias_is_summed_in_float32():
    """A sum in bfloat16 stops growing at 256."""
    y, vjp = jax.vjp(tpu.plus, jnp.zeros((3, 1000, 128), jnp.bfloat16), jnp.arange(128, dtype=jnp.float32))
    np.testing.assert_array_equal(y[0, 0], jnp.arange(128))
    dx, dbias = vjp(jnp.ones_like(y))
    assert dx.dtype == jnp.bfloat16 and dbias.dtype == jnp.float32
    np.testing.assert_array_equal(dbias, 3000)
    assert not arithmetic(jax.make_jaxpr(vjp)(dx).jaxpr)
