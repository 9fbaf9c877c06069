"""ViTs: published sizes, positions for crops of any size, masks, drop path, and what must change nothing."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from target import mesh_of

from ssljax.config import from_json, resolved
from ssljax.models import Preprocessing, Pretrained, ResNet, ViT, cls_attention, preprocessing_of
from ssljax.models.blocks import drop_path, drop_path_factors
from ssljax.models.layers import Attention
from ssljax.models.vit import _bicubic
from ssljax.types import UserError

TINY = ViT(width=16, depth=2, heads=2, patch=4)


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@functools.cache
def variables(encoder):
    """Initial variables for images of 16 px, with noise: scales and biases too are not at one or zero."""
    init = jax.jit(functools.partial(encoder.init, train=False))
    v = jax.device_get(init(jax.random.PRNGKey(0), jnp.zeros((1, 16, 16, 3))))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), v)


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def embed(encoder, v, x, method=None):
    return encoder.apply(v, x, train=False, method=method)


def parameters(encoder, side=224):
    init = functools.partial(encoder.init, train=True)
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


# timm's models without `head`, for images of 224 px
@pytest.mark.parametrize(
    "variant, patch, count",
    [
        ("Ti", 16, 5_524_416),
        ("S", 16, 21_665_664),
        ("S", 8, 21_670_272),
        ("B", 16, 85_798_656),
        ("B", 8, 85_807_872),
        ("L", 16, 303_301_632),
    ],
)
def test_published_numbers_of_parameters(variant, patch, count):
    assert parameters(ViT(variant=variant, patch=patch)) == count


DINOV2 = ViT(patch=14, layer_scale=1e-5)
DINOV3 = ViT(positions="rope", layer_scale=1e-5, registers=4, qkv_bias=False)
SIGLIP = ViT(pooling="attention")


# timm's models without `head`; with registers it adds the position of [CLS] to the token, and has `width` fewer
@pytest.mark.parametrize(
    "encoder, side, count",
    [
        (DINOV2, 518, 22_056_192),
        (DINOV2.clone(variant="B", registers=4), 518, 86_582_016 + 768),
        (DINOV2.clone(variant="L", registers=4), 518, 304_370_688 + 1024),
        (DINOV2.clone(variant="g", registers=4, feed_forward="swiglu"), 518, 1_136_483_840 + 1536),
        (DINOV3, 256, 21_586_944),
        (DINOV3.clone(qkv_bias=True), 256, 21_596_160),
        (DINOV3.clone(feed_forward="swiglu"), 256, 28_683_264),
        (DINOV3.clone(variant="B"), 256, 85_641_216),
        (DINOV3.clone(variant="L"), 256, 303_079_424),
        (DINOV3.clone(variant="H+", feed_forward="swiglu"), 256, 840_509_440),
        (SIGLIP.clone(variant="B"), 224, 92_884_224),
        (SIGLIP.clone(variant="L"), 256, 315_956_224),
        (SIGLIP.clone(variant="So400m", patch=14), 224, 427_680_704),
    ],
)
def test_published_numbers_of_parameters_of_later_networks(encoder, side, count):
    assert parameters(encoder, side) == count


@pytest.mark.parametrize(
    "option, more",
    [
        ({"registers": 4}, 4 * 16),
        ({"mask_token": True}, 16),
        ({"layer_scale": 1e-5}, 2 * 2 * 16),
        ({"positions": "sincos"}, -(16 + 1) * 16),
        ({"frozen_patches": True}, -(4 * 4 * 3 * 16 + 16)),
        ({"qkv_bias": False}, -2 * 3 * 16),
        ({"positions": "rope"}, -(16 + 1) * 16 - 2 * 16),  # the keys' biases go, too
        ({"feed_forward": "gelu_tanh"}, 0),
        ({"feed_forward": "swiglu"}, 2 * (16 + 1) * 64),
        ({"hidden": 65}, 2 * (16 + 1 + 16)),
        ({"pooling": "attention"}, 4 * (16 + 1) * 16 + (16 + 1) * 64 + (64 + 1) * 16 + (1 + 2 - 2) * 16),
    ],
)
def test_what_options_add(option, more):
    assert parameters(TINY.clone(**option), side=16) == parameters(TINY, side=16) + more


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"registers": 2, "layer_scale": 0.1, "mask_token": True, "dtype": "bfloat16"},
        {"registers": 2, "positions": "rope", "feed_forward": "swiglu", "dtype": "bfloat16"},
        {"pooling": "attention", "feed_forward": "gelu_tanh", "dtype": "bfloat16"},
    ],
)
def test_results_are_float32_and_as_long_as_they_say(option):
    encoder = TINY.clone(**option)
    cls, patches = embed(encoder, variables(encoder), images(3, 16, 24, 3), method="tokens")
    assert cls.shape == (3, encoder.features) == (3, 16) and patches.shape == (3, 4 * 6, 16)
    assert cls.dtype == patches.dtype == jnp.float32
    np.testing.assert_array_equal(embed(encoder, variables(encoder), images(3, 16, 24, 3)), cls)


def test_positions_of_the_same_size_are_not_touched():
    np.testing.assert_array_equal(_bicubic(5, 5), np.eye(5))


def test_positions_of_another_size_are_interpolated():
    matrix = _bicubic(6, 9)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)  # what is constant stays so
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-6)


def test_interpolation_as_in_torch():
    # torch.nn.functional.interpolate([0, 1, 4, 9, 16, 25], size, mode="bicubic", align_corners=False)
    squares = np.arange(6.0) ** 2
    fewer, more = _bicubic(6, 3) @ squares, _bicubic(6, 8) @ squares
    np.testing.assert_allclose(fewer, [0.21875, 6.125, 21.15625], atol=1e-4)
    expected = [-0.07178, 0.31006, 1.86133, 4.66602, 8.00586, 12.81836, 20.01221, 25.646]
    np.testing.assert_allclose(more, expected, atol=1e-4)


def test_images_of_another_size_take_part_of_the_same_positions():
    v, x = variables(TINY), images(2, 8, 8, 3)
    rows = jnp.asarray(_bicubic(4, 2))
    smaller = jnp.einsum("hr,wc,rcf->hwf", rows, rows, v["params"]["positions"])
    same = v | {"params": v["params"] | {"positions": smaller}}
    np.testing.assert_allclose(embed(TINY, v, x), embed(TINY, same, x), atol=1e-5)


def test_positions_tell_patches_apart():
    v, x = variables(TINY), images(1, 16, 16, 3)
    cls = embed(TINY, v, x)
    assert np.abs(cls - embed(TINY, v, x[:, ::-1, ::-1])).max() > 1e-3
    sincos = TINY.clone(positions="sincos")
    v = variables(sincos)
    assert np.abs(embed(sincos, v, x) - embed(sincos, v, jnp.roll(x, 4, axis=2))).max() > 1e-3


@pytest.mark.parametrize("pooling", ["cls", "attention"])
def test_rotary_positions_tell_patches_apart_at_any_size(pooling):
    encoder = TINY.clone(positions="rope", pooling=pooling)
    v, x = variables(encoder), images(1, 16, 24, 3)
    assert np.abs(embed(encoder, v, x) - embed(encoder, v, x[:, ::-1, ::-1])).max() > 1e-3


def test_siglip_has_its_own_preprocessing():
    assert preprocessing_of(Pretrained(SIGLIP, None)).mean == (0.5, 0.5, 0.5)
    assert preprocessing_of(TINY) == Preprocessing()


def test_images_of_a_batch_are_independent():
    v = variables(TINY)
    x = images(3, 16, 16, 3)
    np.testing.assert_allclose(embed(TINY, v, x)[1:2], embed(TINY, v, x[1:2]), atol=1e-5)


def test_masked_patches_are_not_seen():
    encoder = TINY.clone(mask_token=True)
    v, x = variables(encoder), images(2, 16, 16, 3)
    mask = jnp.zeros((2, 16), bool).at[0, 5].set(True)  # row 1, column 1

    def cls(x, v=v):
        return encoder.apply(v, x, train=False, method="tokens", mask=mask)[0].sum()

    seen = np.abs(jax.jit(jax.grad(cls))(x)).sum(axis=-1).reshape(2, 4, 4, 4, 4).sum(axis=(2, 4)) > 0
    expected = np.ones((2, 4, 4), bool)
    expected[0, 1, 1] = False
    np.testing.assert_array_equal(seen, expected)
    gradient = jax.jit(jax.grad(lambda v: cls(x, v)))(v)
    assert np.abs(gradient["params"]["mask_token"]).max() > 0


def test_a_mask_needs_its_token():
    with pytest.raises(UserError, match="mask_token"):
        TINY.apply(variables(TINY), images(1, 16, 16, 3), train=False, method="tokens", mask=jnp.zeros((1, 16), bool))


@pytest.mark.parametrize("settings", [{}, {"positions": "rope", "feed_forward": "swiglu", "pooling": "attention"}])
@pytest.mark.parametrize("options", [{"remat": "block"}, {"remat": "dots", "scan": True}, {"scan": True}])
def test_neither_remat_nor_a_loop_changes_anything(options, settings):
    x = images(2, 16, 16, 3)
    encoder = TINY.clone(drop_path=0.5, layer_scale=0.5, **settings)
    v = variables(encoder)
    plain, other = (_gradient(e, v["params"], x) for e in (encoder, encoder.clone(**options)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), plain, other)


@functools.partial(jax.jit, static_argnums=0)
def _gradient(encoder, params, x):
    rngs = {"drop_path": jax.random.PRNGKey(1)}
    return jax.grad(lambda p: (encoder.apply({"params": p}, x, train=True, rngs=rngs) ** 3).sum())(params)


def test_a_loop_has_the_parameters_of_the_blocks_one_by_one():
    loop = TINY.clone(scan=True)
    jax.tree.map(np.testing.assert_array_equal, variables(TINY), variables(loop))
    x = images(2, 16, 16, 3)
    np.testing.assert_allclose(embed(loop, variables(loop), x), embed(TINY, variables(TINY), x), rtol=1e-5, atol=1e-5)
    weights = cls_attention(loop, variables(loop), x)
    np.testing.assert_allclose(weights, cls_attention(TINY, variables(TINY), x), rtol=1e-5)


def test_remat_is_a_known_policy_and_was_a_truth_value():
    x = images(1, 16, 16, 3)
    with pytest.raises(UserError, match="remat=all is not a policy: choose none, block or dots"):
        TINY.clone(remat="all").apply(variables(TINY), x, train=False)
    old = from_json({**resolved(TINY), "remat": True})
    np.testing.assert_array_equal(embed(old, variables(TINY), x), embed(TINY.clone(remat="block"), variables(TINY), x))


def test_bfloat16_is_near_float32():
    v, x = variables(TINY), images(4, 16, 16, 3)
    exact, near = embed(TINY, v, x), embed(TINY.clone(dtype="bfloat16"), v, x)
    assert np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("settings", [{}, {"positions": "rope", "feed_forward": "swiglu", "pooling": "attention"}])
def test_gradients_are_finite_and_reach_all(settings):
    encoder = TINY.clone(registers=2, layer_scale=1e-5, **settings)
    v, x = variables(encoder), images(2, 16, 16, 3)
    gradient = jax.jit(jax.grad(lambda v: (encoder.apply(v, x, train=True) ** 3).sum()))(v)["params"]
    gradient = jax.tree_util.tree_leaves_with_path(gradient)
    for path, leaf in gradient:
        assert np.isfinite(leaf).all() and np.any(leaf), path


def test_frozen_patches_are_no_parameters():
    encoder = TINY.clone(frozen_patches=True)
    v, x = variables(encoder), images(2, 16, 16, 3)
    assert "patches" not in v["params"] and v["batch_stats"]["patches"].shape == (48, 16)
    _, updated = jax.jit(functools.partial(encoder.apply, train=True, mutable=["batch_stats"]))(v, x)
    np.testing.assert_array_equal(updated["batch_stats"]["patches"], v["batch_stats"]["patches"])


def test_drop_path_needs_training_and_an_rng():
    encoder = TINY.clone(drop_path=0.9)
    v, x = variables(encoder), images(4, 16, 16, 3)
    rngs = {"drop_path": jax.random.PRNGKey(1)}
    apply = jax.jit(encoder.apply, static_argnames="train")
    whole = apply(v, x, train=False)
    np.testing.assert_array_equal(apply(v, x, train=False, rngs=rngs), whole)
    np.testing.assert_array_equal(apply(v, x, train=True), whole)
    assert np.abs(apply(v, x, train=True, rngs=rngs) - whole).max() > 1e-3


def factors(rate, blocks, batch):
    class Factors(nn.Module):
        @nn.compact
        def __call__(self):
            return drop_path_factors(self, rate, blocks, batch, True)

    return Factors().apply({}, rngs={"drop_path": jax.random.PRNGKey(0)})


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    _, last = factors(0.25, 2, 4096)
    assert set(np.unique(last)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (np.abs(last.mean(axis=1) - 1) < 0.04).all() and np.any(last[0] != last[1])  # four standard deviations
    y = drop_path(jnp.ones((4096, 2, 3)), last[0])
    np.testing.assert_array_equal(y, np.broadcast_to(last[0][:, None, None], y.shape))


def test_drop_path_rises_to_the_last_block():
    largest = [np.max(own) for own in factors(0.3, 4, 64)]
    np.testing.assert_allclose(largest, [1, 1 / 0.9, 1 / 0.8, 1 / 0.7], rtol=1e-6)
    assert np.min(factors(0.3, 1, 64)[0]) == 1


def test_one_device_is_eight_devices():
    encoder = TINY.clone(drop_path=0.5)
    v, x = variables(encoder), images(8, 16, 16, 3)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    @jax.jit
    def gradient(params, x):
        rngs = {"drop_path": jax.random.PRNGKey(1)}
        return jax.grad(lambda p: (encoder.apply({"params": p}, x, train=True, rngs=rngs) ** 3).mean())(params)

    spread = gradient(v["params"], jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, spread, gradient(v["params"], x))


@pytest.mark.parametrize(
    "encoder, sentence",
    [
        (ViT(variant="H"), "^variant=H"),
        (TINY.clone(patch=5), "^patch=5 does not divide"),
        (TINY.clone(heads=3), "^heads=3"),
        (TINY.clone(depth=0), "^depth=0"),
        (TINY.clone(drop_path=1.0), "^drop_path=1.0"),
        (TINY.clone(width=18, positions="sincos"), "^width=18"),
        (TINY.clone(heads=8, positions="rope"), "^heads=8 must leave each a multiple of 4"),
        (TINY.clone(hidden=0), "^hidden=0"),
    ],
)
def test_what_cannot_work_is_refused(encoder, sentence):
    with pytest.raises(UserError, match=sentence):
        parameters(encoder, side=16)


@pytest.mark.parametrize("masked", [False, True])
def test_sown_weights_are_those_that_values_are_weighed_by(masked):
    attention, x = Attention(heads=2), images(3, 5, 8)
    bias = images(1, 2, 5, 5) if masked else None
    mask = jnp.asarray(np.random.default_rng(1).random((3, 1, 5, 5)) < 0.7).at[..., 0].set(True) if masked else None
    v = jax.jit(attention.init)(jax.random.PRNGKey(0), x)
    assert set(v) == {"params"}
    y, sown = jax.jit(functools.partial(attention.apply, mutable=["intermediates"]))(v, x, bias, mask)
    (weights,) = sown["intermediates"]["weights"]
    np.testing.assert_allclose(weights.sum(axis=-1), np.ones((3, 2, 5)), atol=1e-6)
    if masked:
        assert not np.where(mask, 0, weights).any()
    dense = {name: lambda x, p=p: x @ p["kernel"] + p["bias"][None, None] for name, p in v["params"].items()}
    values = dense["value"](x).reshape(3, 5, 2, 4)
    mixed = jnp.einsum("bhqk,bkhc->bqhc", weights, values).reshape(3, 5, 8)
    np.testing.assert_allclose(dense["out"](mixed), y, atol=1e-5)


@pytest.mark.parametrize(
    "option", [{}, {"registers": 2, "remat": "dots"}, {"frozen_patches": True, "dtype": "bfloat16"}]
)
def test_attention_of_cls_is_a_share_for_each_patch(option):
    encoder = TINY.clone(**option)
    v, x = variables(encoder), images(3, 16, 24, 3)
    maps = jax.jit(functools.partial(cls_attention, encoder))(v, x)
    assert maps.shape == (3, 2, 4, 6) and maps.dtype == jnp.float32
    shares = np.asarray(maps).sum(axis=(2, 3))
    assert np.asarray(maps).min() >= 0 and (shares < 1).all() and (shares > 0.5).all()
    same = jax.jit(functools.partial(cls_attention, Pretrained(encoder, None)))(v, x)
    np.testing.assert_array_equal(maps, same)


def test_attention_of_a_pooling_query_is_shared_among_the_patches():
    encoder = TINY.clone(pooling="attention", registers=2)
    maps = jax.jit(functools.partial(cls_attention, encoder))(variables(encoder), images(3, 16, 24, 3))
    assert maps.shape == (3, 2, 4, 6)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, rtol=1e-5)


def test_attention_of_cls_lies_where_the_patch_is():
    """In one block, a patch's pixels change its own logit alone: all other weights change by one factor."""
    encoder = TINY.clone(depth=1)
    v, x = variables(encoder), images(1, 16, 16, 3)
    maps = jax.jit(functools.partial(cls_attention, encoder))
    before = np.asarray(maps(v, x))[0]
    after = np.asarray(maps(v, x.at[:, 4:8, 12:16].multiply(5.0)))[0]
    change = np.abs(np.log(after / before) - np.median(np.log(after / before), axis=(1, 2), keepdims=True))
    assert all(np.unravel_index(head.argmax(), head.shape) == (1, 3) for head in change)


@pytest.mark.parametrize(
    "encoder",
    [
        TINY.clone(depth=4, dtype="bfloat16"),
        TINY.clone(depth=4, dtype="bfloat16", scan=True),
        ResNet(depth=18, width=8, stem="cifar"),
    ],
    ids=["vit", "vit-scan", "resnet"],
)
def test_the_backward_pass_keeps_less_with_each_policy(encoder):
    x = jnp.zeros((4, 16, 16, 3))
    v = jax.eval_shape(functools.partial(encoder.init, train=True), jax.random.PRNGKey(0), x)

    def saved(remat):  # on a TPU: a CPU's own products have no name that a policy could know
        def backward(v):
            apply = functools.partial(encoder.clone(remat=remat).apply, train=True, mutable=["batch_stats"])
            return jax.vjp(lambda v: apply(v, x)[0], v)[1]

        with jax.sharding.use_abstract_mesh(mesh_of("tpu")):
            return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(backward, v)))

    assert saved("block") < 0.8 * saved("dots") < 0.6 * saved("none")
