"""Masks of the global crops' patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import ndimage
from test_two_crops import batch_of
from traffic import sent

from ssljax.types import UserError
from ssljax.views import Masked, MultiCrop, TwoCrops
from ssljax.views.masked import block_masks

CROPS = MultiCrop(size=16, local_size=8, local_count=2)
MASKED = Masked(crops=CROPS, patch=2)

make = jax.jit(lambda views, rng, batch: views(rng, batch), static_argnums=0)
masks_of = jax.jit(block_masks, static_argnums=2)


def test_a_mask_for_each_global_crop_and_the_views_of_the_crops():
    batch = batch_of(4)
    result = make(MASKED, jax.random.key(0), batch)
    assert [mask.shape for mask in result["masks"]] == [(4, 64)] * 2
    assert all(mask.dtype == bool for mask in result["masks"])
    assert [v.shape for v in result["views"]] == [(4, 16, 16, 3)] * 2 + [(4, 8, 8, 3)] * 2
    assert "masks" not in MASKED.evaluation(batch)
    np.testing.assert_array_equal(MASKED.evaluation(batch)["views"][0], CROPS.evaluation(batch)["views"][0])


def test_the_share_of_masked_crops_is_fixed_and_their_ratios_are_spread_evenly():
    n, key = 12, jax.random.key(3)
    views = Masked(crops=TwoCrops(size=40, jitter=0.0, blur=0.0), patch=4, share=0.5, ratio=(0.1, 0.6))
    first, second = make(views, key, batch_of(n))["masks"]
    for mask in (first, second):
        assert sorted(np.asarray(mask.sum(1))) == [0] * 6 + [10, 20, 30, 40, 50, 60]
    assert (first.sum(1) != second.sum(1)).any()  # each view has an order of its own
    counts = np.stack([make(views, jax.random.key(k), batch_of(n))["masks"][0].sum(1) for k in range(60)])
    assert (np.abs((counts > 0).mean(0) - 0.5) < 4 * 0.5 / 60**0.5).all()  # no place in the batch is preferred


def test_masks_are_blocks_of_exactly_the_count():
    n, side = 300, 14
    counts = jnp.asarray(np.linspace(0, side**2, n).round(), jnp.int32)
    masks = np.asarray(masks_of(jax.random.key(0), counts, side))
    np.testing.assert_array_equal(masks.sum(1), counts)
    half = np.asarray(masks_of(jax.random.key(1), jnp.full(n, 60), side)).reshape(n, side, side)

    def pieces(mask):
        return ndimage.label(mask)[1]

    rng = np.random.default_rng(0)
    scattered = [pieces(rng.permutation(side**2).reshape(side, side) < 60) for _ in range(50)]
    assert np.mean([pieces(mask) for mask in half]) < 3 < 10 < np.mean(scattered)


def test_masks_differ_and_reach_every_patch_without_a_preferred_end():
    masks = np.asarray(masks_of(jax.random.key(0), jnp.full(8000, 50), 14))
    assert len(np.unique(masks, axis=0)) > 7500
    often = masks.reshape(-1, 14, 14).mean(0)
    assert often.min() > 0.01
    for turned in (often[::-1], often[:, ::-1], often.T):
        np.testing.assert_allclose(often, turned, atol=0.04)


def test_eight_devices_make_what_one_makes_without_speaking_to_each_other():
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,))
    batch, views = batch_of(2 * devices), jax.jit(lambda rng, batch: MASKED(rng, batch)["masks"])
    expected = views(jax.random.key(0), batch)
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    compiled = views.lower(rng, sharded).compile()
    assert not sent(compiled)
    jax.tree.map(np.testing.assert_array_equal, compiled(rng, sharded), expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [("patch", 0), ("share", 0.0), ("share", 1.5), ("ratio", (0.5, 0.1)), ("ratio", (0.1, 1.0)), ("crops", 3)],
)
def test_a_mistake_is_named(field, value):
    with pytest.raises(UserError, match=f"^views.{field}="):
        Masked(**{field: value})


def test_patches_that_do_not_fit_are_refused_before_compilation():
    with pytest.raises(UserError, match=r"views\.patch=7 does not divide .*views\.crops\.size=16: try .*size=21"):
        jax.eval_shape(Masked(crops=CROPS, patch=7), jax.random.key(0), batch_of(4))
