"""What holds for every disturbance, by itself and among an augmentation's others."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from disturbances import ALONE, alone, apply, disturb, every, items
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from traffic import sent

from ssljax.types import UserError
from ssljax.views import (
    JPEG,
    HueShift,
    Rotation,
)


def strengths(batch=48, value=1.0):
    return jnp.full(batch, value, jnp.float32)


@every
@pytest.mark.parametrize(("height", "width"), [(20, 20), (16, 24)])
def test_strength_0_gives_the_same_bits_and_no_strength_leaves_the_range(kind, height, width):
    images = items(48, height, width)
    images = images.at[:6].set(np.array([0, 1, 0.5, 1 / 3, 0.1, 0.9], np.float32)[:, None, None, None])  # even ones
    strength = jnp.linspace(0, 1, 48).at[24:36].set(0)
    result = np.asarray(disturb(kind, jax.random.key(0), images, strength))
    assert result.dtype == np.float32
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
    unchanged = np.asarray(strength == 0)
    np.testing.assert_array_equal(result[unchanged], images[unchanged])


@every
def test_it_happens_as_often_as_its_probability_says(kind):
    n, probability = 480, 0.3
    images = items(n)
    result = apply(kind(probability=probability, strength=1.0), jax.random.key(1), images)
    changed = (np.abs(result - images).max((1, 2, 3)) > 0).mean()
    assert abs(changed - probability) < 4 * (probability * (1 - probability) / n) ** 0.5
    np.testing.assert_array_equal(apply(kind(probability=1.0, strength=0.0), jax.random.key(1), images), images)


@alone  # a collage has more items, told by its own tests
def test_it_grows_with_the_strength(kind):
    images = items()
    change = [
        float(jnp.abs(disturb(kind, jax.random.key(2), images, strengths(value=value)) - images).mean())
        for value in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert change == sorted(change) and change[0] == 0
    assert all(later > 1.1 * earlier for earlier, later in itertools.pairwise(change))


@alone
def test_an_image_does_not_depend_on_the_others(kind):
    images, others, strength = items(), items(seed=1), jnp.linspace(0, 1, 48)
    mine = jnp.arange(48) % 3 == 0
    mixed = jnp.where(mine[:, None, None, None], images, others)
    result = disturb(kind, jax.random.key(3), images, strength)
    result_of_mixed = disturb(kind, jax.random.key(3), mixed, jnp.where(mine, strength, 1 - strength))
    np.testing.assert_array_equal(result_of_mixed[mine], result[mine])


@pytest.mark.parametrize("kind", [kind for kind in ALONE if kind is not JPEG])  # which has nothing random
def test_every_image_has_random_numbers_of_its_own_and_the_key_decides(kind):
    images = jnp.repeat(items(1), 48, axis=0)
    result = np.asarray(disturb(kind, jax.random.key(4), images, strengths(value=0.8)))
    different = len(np.unique(result.round(4).reshape(48, -1), axis=0))
    assert different == (2 if kind in (HueShift, Rotation) else 48)  # these two only choose the direction
    np.testing.assert_array_equal(disturb(kind, jax.random.key(4), images, strengths(value=0.8)), result)
    assert np.abs(disturb(kind, jax.random.key(5), images, strengths(value=0.8)) - result).max() > 0.01


@every
def test_eight_devices_make_what_one_makes_without_speaking_to_each_other(kind):
    mesh = jax.make_mesh((jax.device_count(),), ("data",), (AxisType.Auto,))
    images, rng = items(64), jax.random.key(6)  # eight on each
    expected = apply(kind(), rng, images)
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(rng, NamedSharding(mesh, PartitionSpec()))
    compiled = apply.lower(kind(), rng, sharded).compile()
    assert not sent(compiled)
    result = compiled(rng, sharded)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert result.sharding.is_equivalent_to(sharded.sharding, 4)


@every
@pytest.mark.parametrize(("field", "value"), [("probability", 1.5), ("strength", -0.1)])
def test_a_mistake_is_named(kind, field, value):
    with pytest.raises(UserError, match=f"^{kind.__name__}.{field}="):
        kind(**{field: value})
