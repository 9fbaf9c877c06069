"""Global and local crops of each photo, as the training step sees them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from test_two_crops import batch_of
from traffic import sent

from ssljax.types import UserError
from ssljax.views import Augmentation, MultiCrop, TwoCrops

OFF = dict(flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
PLAIN = dict(mean=(0, 0, 0), std=(1, 1, 1))
SMALL = MultiCrop(size=16, local_size=8, local_count=3)

make = jax.jit(lambda views, rng, batch: views(rng, batch)["views"], static_argnums=0)


def gradients(batch, size=32):
    """Photos that grow brighter to the right (red) and downwards (green): a crop's range says how much it shows."""
    ramp = np.round((np.arange(size) + 0.5) / size * 255).astype(np.uint8)
    image = np.zeros((batch, 1, size, size, 3), np.uint8)
    image[..., 0], image[..., 1] = ramp[None, :], ramp[:, None]
    return {"image": jnp.asarray(image), "aspect": jnp.ones((batch, 1))}


def shown(view):
    """f32[B], the share of each photo of `gradients` that a view shows, as the slopes of its colours say."""
    side = view.shape[1]
    middle = view[:, side // 4 : -(side // 4), side // 4 : -(side // 4)]
    width = np.diff(middle[..., 0], axis=2).mean((1, 2)) * side
    height = np.diff(middle[..., 1], axis=1).mean((1, 2)) * side
    return np.abs(width * height)


def test_shapes_and_order():
    views = make(SMALL, jax.random.key(0), batch_of(4, photos=2))
    assert [view.shape for view in views] == [(4, 16, 16, 3)] * 2 + [(4, 8, 8, 3)] * 3
    assert all(view.dtype == jnp.float32 and np.isfinite(view).all() for view in views)


def test_global_crops_are_those_of_two_crops_however_many_local_ones():
    batch, key = batch_of(4), jax.random.key(0)
    fields = {f.name: getattr(SMALL, f.name) for f in dataclasses.fields(TwoCrops)}
    expected = make(TwoCrops(**fields), key, batch)
    for count in (0, 3):
        views = make(dataclasses.replace(SMALL, local_count=count), key, batch)
        assert len(views) == 2 + count
        # Two programs, each rounded in its own way.
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), views[:2], expected)


def test_areas_are_uniform_in_their_scales():
    n, square = 400, OFF | {"ratio": (1.0, 1.0)}  # every box fits, so that none is drawn again
    views = MultiCrop(
        size=32,
        **square | PLAIN,
        scale=(0.4, 0.7),
        second=Augmentation(**square, scale=(0.7, 0.9)),
        local=Augmentation(**square, scale=(0.05, 0.25)),
        local_size=24,
        local_count=2,
    )
    made = make(views, jax.random.key(1), gradients(n))
    for view, (low, high) in zip(made, [(0.4, 0.7), (0.7, 0.9), (0.05, 0.25), (0.05, 0.25)], strict=True):
        area = shown(np.asarray(view))
        assert low * 0.9 < area.min() < area.max() < high * 1.1
        # standard error of a uniform's mean, and a little for the slopes' rounding
        assert abs(area.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * n) + 0.01


def test_every_local_crop_is_of_its_photo_and_has_random_numbers_of_its_own():
    batch = 4
    shade = np.arange(1, batch + 1, dtype=np.uint8) * 40
    image = np.broadcast_to(shade[:, None, None, None, None], (batch, 1, 12, 12, 3))
    views = MultiCrop(size=16, **OFF | PLAIN, second=None, local=Augmentation(**OFF), local_size=8, local_count=3)
    for view in make(views, jax.random.key(0), {"image": jnp.asarray(image), "aspect": jnp.ones((batch, 1))}):
        np.testing.assert_allclose(view, np.broadcast_to(shade[:, None, None, None] / 255, view.shape), atol=1e-5)
    locals_ = np.stack(make(views, jax.random.key(0), gradients(batch))[2:])
    assert len(np.unique(locals_.reshape(3 * batch, -1).round(4), axis=0)) == 3 * batch


def test_more_local_crops_are_no_more_to_compile():
    def operations(count):
        views = dataclasses.replace(SMALL, local_count=count)
        text = jax.jit(views).lower(jax.random.key(0), batch_of(4)).as_text()
        return sum(any(op in line for op in ("dot_general", "rng", "threefry", "sort")) for line in text.splitlines())

    assert operations(8) == operations(2)


def test_views_of_two_sizes_compile_once():
    traces = []

    @jax.jit
    def views(rng, batch):
        traces.append(0)
        return SMALL(rng, batch)["views"]

    for seed in range(3):
        views(jax.random.key(seed), batch_of(4, seed=seed))
    assert len(traces) == 1


def test_eight_devices_make_what_one_makes_without_speaking_to_each_other():
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,))
    batch, views = batch_of(2 * devices), jax.jit(lambda rng, batch: SMALL(rng, batch)["views"])
    expected = views(jax.random.key(0), batch)
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    compiled = views.lower(rng, sharded).compile()
    assert not sent(compiled)
    result = compiled(rng, sharded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), result, expected)
    assert not any(view.sharding.is_fully_replicated for view in result)


def test_swav_is_a_choice_of_fields():
    colours = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
    local = Augmentation(**colours, scale=(0.05, 0.14))
    views = MultiCrop(**colours, size=16, scale=(0.14, 1.0), second=None, local=local, local_size=8, local_count=6)
    assert len(make(views, jax.random.key(0), batch_of(2))) == 8


@pytest.mark.parametrize(
    ("field", "value"), [("local_size", 1), ("local_count", -1), ("local", None), ("local_count", 2.5), ("blur", 2.0)]
)
def test_a_mistake_is_named(field, value):
    with pytest.raises(UserError, match=f"^views.{field}="):
        MultiCrop(**{field: value})
