"""The fast forms for CPUs equal the plain operations in value and gradient, and run where the target is a CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from target import mesh_of

from ssljax import sharding
from ssljax.models import EfficientNet, ResNet, ViT, cpu, layers

PLAIN_CONV = layers.conv.__wrapped__

# batch, height, width, channels, features, kernel size, stride
SHAPES = [
    (2, 8, 8, 64, 24, 3, 1),  # Winograd
    (2, 7, 5, 64, 8, 3, 1),  # and on an odd map
    (3, 2, 2, 64, 64, 3, 1),
    (2, 1, 1, 64, 16, 3, 1),
    (2, 6, 6, 3, 8, 3, 1),  # too few channels for Winograd
    (2, 9, 8, 4, 8, 3, 2),
    (2, 9, 8, 64, 8, 3, 2),
    (2, 4, 4, 8, 8, 3, 2),  # a map smaller than the kernel
    (2, 2, 2, 8, 8, 3, 1),
    (2, 1, 1, 8, 8, 3, 2),
    (2, 6, 6, 8, 8, 1, 1),
    (2, 7, 6, 8, 4, 1, 2),
    (2, 16, 16, 3, 8, 7, 2),
    (2, 9, 9, 3, 8, 7, 2),
    (2, 6, 6, 4, 4, 5, 1),
]


def _inputs(shape, dtype):
    batch, height, width, channels, features, size, stride = shape
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, channels))
    kernel = rng.normal(size=(size, size, channels, features)) / size
    g = rng.normal(size=(batch, -(-height // stride), -(-width // stride), features))
    return [jnp.asarray(a, dtype) for a in (x, kernel, g)]


def _value_and_gradients(conv, stride, pads=None):
    def f(x, kernel, g):
        y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, stride, pads), x, kernel)
        return y, *vjp(g)

    return jax.jit(f)


def _assert_close(a, b, tolerance):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def _assert_equals_plain(shape, dtype=jnp.float32, tolerance=1e-5):
    inputs = _inputs(shape, dtype)
    fast = _value_and_gradients(cpu.conv, shape[-1])(*inputs)
    plain = _value_and_gradients(PLAIN_CONV, shape[-1])(*[a.astype(jnp.float32) for a in inputs])
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        _assert_close(a, b, tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_equals_the_plain_one(shape):
    _assert_equals_plain(shape)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[6], SHAPES[7], SHAPES[10]])
def test_convolution_in_bfloat16(shape):
    _assert_equals_plain(shape, jnp.bfloat16, tolerance=3e-2)


@pytest.mark.parametrize("batch", [6, 5])  # in parts of three images, and of one
def test_convolution_in_parts_of_the_batch(batch, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    monkeypatch.setattr(cpu, "_CACHED", 3 * 4 * 4 * 64)
    _assert_equals_plain((batch, 4, 4, 64, 64, 3, 1))


def test_convolution_under_vmap_and_remat():
    x, kernel, _ = _inputs((4, 4, 4, 64, 8, 3, 1), jnp.float32)

    def loss(conv, kernel):
        return jnp.sum(jax.vmap(jax.checkpoint(lambda part: conv(part, kernel, 1)))(x.reshape(2, 2, 4, 4, 64)) ** 2)

    fast = jax.jit(jax.grad(lambda kernel: loss(cpu.conv, kernel)))(kernel)
    _assert_close(fast, jax.jit(jax.grad(lambda kernel: loss(PLAIN_CONV, kernel)))(kernel), 1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
@pytest.mark.parametrize(
    "shape", [(2, 7, 6, 8, 8, 3, 1), (2, 7, 6, 8, 8, 3, 2), (2, 8, 8, 4, 4, 5, 2), (2, 9, 4, 4, 4, 5, 1)]
)
def test_depthwise_convolution_equals_the_plain_one(shape, dtype, tolerance):
    x, kernel, g = _inputs(shape, dtype)
    kernel, stride = kernel[:, :, :1], shape[-1]
    fast = _value_and_gradients(cpu.conv, stride)(x, kernel, g)
    plain = _value_and_gradients(PLAIN_CONV, stride)(*[a.astype(jnp.float32) for a in (x, kernel, g)])
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        _assert_close(a, b, tolerance)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 8, 7, 8, 8, 3, 2), (2, 5, 6, 8, 8, 5, 2), (2, 2, 2, 8, 8, 5, 2), (2, 8, 8, 8, 8, 5, 1)]
)
def test_convolution_padded_as_in_tensorflow(shape, depthwise):
    x, kernel, g = _inputs(shape, jnp.float32)
    kernel, stride = kernel[:, :, : 1 if depthwise else None], shape[-1]
    pads = layers.pads_of("tensorflow", x, len(kernel), stride)
    fast = _value_and_gradients(cpu.conv, stride, pads)(x, kernel, g)

    def same(x, kernel, stride, _):
        dimensions = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 8 if depthwise else 1}
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", **dimensions)

    for other in (PLAIN_CONV, same):
        for a, b in zip(fast, _value_and_gradients(other, stride, pads)(x, kernel, g), strict=True):
            _assert_close(a, b, 1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
def test_dense_and_repeat_equal_the_plain_ones(dtype, tolerance, monkeypatch):
    rng = np.random.default_rng(0)
    inputs = [jnp.asarray(rng.normal(size=shape), dtype) for shape in ((2, 5, 8), (8, 4), (5, 4), (2, 5, 4))]

    def value_and_gradients(x, kernel, bias, g):
        y, vjp = jax.vjp(lambda x, k, b: layers.dense(x, k, x.dtype) + layers.repeat(b, g.shape), x, kernel, bias)
        return y, *vjp(g)

    fast = value_and_gradients(*inputs)
    monkeypatch.setattr(sharding, "target_platform", lambda: "tpu")
    for a, b in zip(fast, value_and_gradients(*[a.astype(jnp.float32) for a in inputs]), strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        _assert_close(a, b, tolerance)


def test_max_pool_equals_the_plain_one(monkeypatch):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 4)), jnp.float32)  # no two are equal

    def value_and_gradient(x):
        return jax.value_and_grad(lambda x: jnp.sum(layers.max_pool(x) ** 2))(x)

    fast = value_and_gradient(x)
    monkeypatch.setattr(sharding, "target_platform", lambda: "tpu")
    for a, b in zip(fast, value_and_gradient(x), strict=True):
        _assert_close(a, b, 1e-6)


def test_max_pool_divides_the_gradient_among_ties():
    gradient = jax.grad(lambda x: jnp.sum(layers.max_pool(x)))(jnp.zeros((1, 4, 4, 1)))
    assert gradient.sum() == 4 and gradient.min() >= 0


def test_gradients_of_a_network_over_eight_devices_equal_the_plain_ones(monkeypatch):
    encoder = ResNet(depth=10, width=8)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 32, 32, 3)), jnp.float32)
    variables = jax.jit(functools.partial(encoder.init, train=True))(jax.random.PRNGKey(0), x)
    # The last scale of each block starts at zero, which would keep most gradients at zero.
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))

    def loss(params, x):
        out, _ = encoder.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(out**2)

    fast = jax.jit(jax.grad(loss))(variables["params"], x)
    monkeypatch.setattr(sharding, "target_platform", lambda: "tpu")
    plain = jax.jit(jax.grad(lambda params, x: loss(params, x)))(variables["params"], x)  # another function: no cache
    jax.tree.map(lambda a, b: _assert_close(a, b, 1e-4), fast, plain)


ENCODERS = {
    "ResNet": ResNet(depth=10, width=8),
    "EfficientNet": EfficientNet(width=0.1, depth=0.1),
    "ViT": ViT(patch=8, width=16, depth=1, heads=1),
}


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_plain_operations_are_compiled_for_another_machine_and_the_fast_ones_for_a_cpu(name, platform, monkeypatch):
    encoder, x = ENCODERS[name], jnp.zeros((8, 32, 32, 3))
    variables = jax.eval_shape(functools.partial(encoder.init, train=True), jax.random.PRNGKey(0), x)

    def program(mesh):
        def loss(params, x):
            return jnp.sum(encoder.apply({**variables, "params": params}, x, train=False))

        def step(params, stats, x):
            variables["batch_stats"] = stats
            return jax.grad(loss)(params, x)

        with jax.sharding.use_abstract_mesh(mesh):
            lowered = jax.jit(step).trace(variables["params"], variables.get("batch_stats", {}), x)
            return lowered.lower(lowering_platforms=("cuda" if platform == "gpu" else platform,)).as_text()

    fast, other = program(mesh_of("cpu")), program(mesh_of(platform))
    assert fast != other
    for operation in ("conv", "max_pool", "dense", "repeat"):
        assert hasattr(layers, operation)
        monkeypatch.setattr(layers, operation, getattr(layers, operation).__wrapped__)
    assert program(mesh_of(platform)) == other
