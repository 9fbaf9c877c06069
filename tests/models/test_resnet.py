"""ResNets: published sizes, shapes, where blocks start, statistics over groups, and the pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import MLP, ResNet
from ssljax.types import UserError


def shapes(module, *shape):
    init = functools.partial(module.init, train=True)
    return jax.eval_shape(init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def parameters(module, *shape):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(module, *shape)["params"]))


# torchvision's models without `fc`
@pytest.mark.parametrize(
    "depth, count", [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160), (152, 58_143_808)]
)
def test_published_numbers_of_parameters(depth, count):
    assert parameters(ResNet(depth=depth), 2, 64, 64, 3) == count


def test_cifar_stem_has_a_3x3_convolution():
    difference = 64 * 3 * (7 * 7 - 3 * 3)
    assert parameters(ResNet(depth=18, stem="cifar"), 2, 32, 32, 3) == 11_176_512 - difference


@pytest.mark.parametrize("pool, features", [(1, 32), (2, 128)])
def test_output_is_float32_and_as_long_as_it_says(pool, features):
    encoder = ResNet(depth=10, stem="cifar", width=4, pool=pool, dtype="bfloat16")
    variables = shapes(encoder, 2, 16, 16, 3)
    out = jax.eval_shape(
        functools.partial(encoder.apply, train=False), variables, jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    )
    assert out.shape == (2, features) == (2, encoder.features) and out.dtype == jnp.float32


def test_pool_keeps_where_things_are():
    encoder = ResNet(depth=10, stem="cifar", width=4, pool=2)
    whole = ResNet(depth=10, stem="cifar", width=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    variables = jax.jit(functools.partial(encoder.init, train=False))(jax.random.PRNGKey(0), x)
    cells = jax.jit(functools.partial(encoder.apply, train=False))(variables, x).reshape(2, 4, 32)
    mean = jax.jit(functools.partial(whole.apply, train=False))(variables, x)
    np.testing.assert_allclose(cells.mean(axis=1), mean, atol=1e-5)


def test_blocks_start_as_the_identity():
    leaves = jax.jit(functools.partial(ResNet(depth=10, width=4).init, train=False))(
        jax.random.PRNGKey(0), jnp.zeros((2, 16, 16, 3))
    )["params"]
    for name, block in leaves.items():
        if "block" in name:
            assert not np.any(block["norm2"]["scale"])


def test_statistics_over_groups_are_those_of_each_group_alone():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16, 16, 3)), jnp.float32)
    grouped, plain = ResNet(depth=10, width=4, norm_groups=2), ResNet(depth=10, width=4)
    variables = jax.jit(functools.partial(plain.init, train=False))(jax.random.PRNGKey(0), x)

    @functools.partial(jax.jit, static_argnums=0)
    def features(encoder, x):
        return encoder.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    apart = jnp.concatenate([features(plain, x[:4]), features(plain, x[4:])])
    np.testing.assert_allclose(features(grouped, x), apart, atol=1e-4)


@pytest.mark.parametrize("remat", ["block", "dots"])
def test_remat_changes_nothing(remat):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    plain, other = (ResNet(depth=10, width=4, remat=policy) for policy in ("none", remat))
    variables = jax.jit(functools.partial(plain.init, train=False))(jax.random.PRNGKey(0), x)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(encoder, params):
        out = lambda p: encoder.apply(variables | {"params": p}, x, train=False).sum()  # noqa: E731
        return jax.grad(out)(params)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-4),
        gradient(plain, variables["params"]),
        gradient(other, variables["params"]),
    )


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (ResNet(depth=17), "^depth=17"),
        (ResNet(depth=10, width=4, norm_groups=3), "^norm_groups=3"),
        (ResNet(depth=10, width=4, pool=9), "^pool=9"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        shapes(encoder, 4, 16, 16, 3)


@pytest.mark.parametrize(
    "head, count",
    [
        (MLP(hidden=(), out=8), 16 * 8 + 8),
        (MLP(hidden=(32,), out=8), 16 * 32 + 32 + 32 * 8 + 8),
        (MLP(hidden=(32,), out=8, batch_norm=True), 16 * 32 + 2 * 32 + 32 * 8 + 8),
        (MLP(hidden=(32,), out=8, batch_norm=True, last_batch_norm=True), 16 * 32 + 2 * 32 + 32 * 8 + 2 * 8),
        (MLP(hidden=(32,), out=8, last_batch_norm=True, last_affine=False), 16 * 32 + 32 + 32 * 8),
        (MLP(hidden=(32,), out=8, last_bias=False), 16 * 32 + 32 + 32 * 8),
    ],
)
def test_heads_have_the_parameters_of_the_papers(head, count):
    assert parameters(head, 4, 16) == count
