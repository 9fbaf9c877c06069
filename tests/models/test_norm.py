"""BatchNorm over parts of the batch: as if the batch had been shuffled, but nothing moves."""

import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from traffic import sent

from ssljax.models import MLP, BatchNorm, ResNet, in_places
from ssljax.models.blocks import drop_path_factors
from ssljax.sharding import batch_sharding, make_mesh, on_own_share

BATCH, CHANNELS = 24, 5
PLACES = np.random.default_rng(1).permutation(BATCH)
ORDER = np.argsort(PLACES)  # the item in each place


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(1, 2, shape), jnp.float32)


def outputs(module, x, places=None, shuffled=False):
    """What a module makes of x in training, its new statistics, and the gradient by x of the sum of cubes."""
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.PRNGKey(0), x)

    def loss(x):
        y, state = module.apply(variables, x[ORDER] if shuffled else x, train=True, mutable=["batch_stats"])
        y = y[PLACES] if shuffled else y
        return jnp.sum(y**3), (y, state)

    def all_three(x):
        if places is None:
            return jax.value_and_grad(loss, has_aux=True)(x)
        with in_places(jnp.asarray(places)):
            return jax.value_and_grad(loss, has_aux=True)(x)

    return jax.jit(all_three)


def assert_equal(got, expected, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.max(np.abs(b))))


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("groups", [2, 3, 8, 12])
def test_parts_by_places_are_those_of_a_shuffled_batch(groups, devices):
    norm, x = BatchNorm(groups=groups), images(BATCH, 6, 6, CHANNELS)
    expected = outputs(norm, x, shuffled=True)(x)
    mesh = make_mesh(devices=jax.devices()[:devices])
    with jax.set_mesh(mesh):
        assert_equal(outputs(norm, x, PLACES)(jax.device_put(x, batch_sharding(mesh))), expected, 1e-5)


@pytest.mark.parametrize("module", [ResNet(depth=10, width=4, norm_groups=3, remat="block"), MLP((8,), 4, True, True)])
def test_a_whole_network_by_places_is_that_of_a_shuffled_batch(module):
    module = module.clone(norm_groups=3)
    x = images(BATCH, 8, 8, 3) if isinstance(module, ResNet) else images(BATCH, CHANNELS)
    got, expected = outputs(module, x, PLACES)(x), outputs(module, x, shuffled=True)(x)
    assert_equal(got, expected, 1e-4)
    plain = outputs(module, x)(x)
    assert np.max(np.abs(plain[0][1][0] - expected[0][1][0])) > 1e-2  # it is not all the same


@pytest.mark.parametrize("places", [None, PLACES])
@pytest.mark.parametrize("groups", [2, 3, 8, 12])
def test_statistics_travel_alone(groups, places):
    """Of groups of which a device has a part too: 24 items are three on each of eight devices."""
    x, mesh = images(BATCH, 6, 6, CHANNELS), make_mesh()
    with jax.set_mesh(mesh):
        step = outputs(BatchNorm(groups=groups, affine=False), x, places)
        arrays = sent(step.lower(jax.device_put(x, batch_sharding(mesh))).compile())
    assert {array.kind for array in arrays} <= {"all-reduce"}
    assert max((array.bytes for array in arrays), default=0) <= 4 * groups * 2 * CHANNELS


@pytest.mark.parametrize("places", [None, PLACES])
@pytest.mark.parametrize("groups", [1, 2, 3, 8, 12, 24])
def test_the_share_of_each_device_is_normalised_as_in_the_whole_batch(groups, places):
    norm, x, mesh = BatchNorm(groups=groups), images(BATCH, 6, 6, CHANNELS), make_mesh()
    variables = norm.init(jax.random.PRNGKey(0), x, train=False)

    def by_shares(axes, variables, x):
        y, state = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return jax.lax.pmean(state, axes), y

    def loss(variables, x, share):
        with in_places(jnp.asarray(places)) if places is not None else contextlib.nullcontext():
            state, y = (on_own_share if share else lambda part, *all: part((), *all))(by_shares, variables, x)
        return jnp.sum(y**3), (y, state)

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    with jax.set_mesh(mesh):
        got = gradient(variables, jax.device_put(x, batch_sharding(mesh)), True)
    assert_equal(got, gradient(variables, x, False), 1e-5)


def test_the_share_of_each_device_loses_the_branches_that_it_loses_in_the_whole_batch():
    class Factors(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.moveaxis(drop_path_factors(self, 0.5, 4, len(x), True), 2, 0)

    def factors(axes, rng, x):
        return (), Factors().apply({}, x, rngs={"drop_path": rng})

    rng, x = jax.random.PRNGKey(0), images(BATCH)
    expected = factors((), rng, x)[1]
    with jax.set_mesh(make_mesh()):
        _, got = jax.jit(lambda x: on_own_share(factors, rng, x))(x)
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(got, axis=0)) > BATCH / 2


def test_places_leave_evaluation_and_whole_batches_as_they_are():
    x = images(BATCH, CHANNELS)
    for norm, train in ((BatchNorm(groups=3), False), (BatchNorm(), True)):
        variables = norm.init(jax.random.PRNGKey(0), x, train=False)
        apply = functools.partial(norm.apply, variables, x, train=train, mutable=["batch_stats"])
        with in_places(jnp.asarray(PLACES)):
            got = apply()
        assert_equal(got, apply(), 0)
