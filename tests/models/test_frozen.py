"""Which layer each part of an encoder is, and encoders of which a part does not learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import (
    MLP,
    ConvNeXt,
    EfficientNet,
    Frozen,
    Pretrained,
    ResNet,
    Swin,
    ViT,
    norm_groups,
    number_layers,
    weights_bytes,
    whole,
)
from ssljax.types import UserError

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)
RNG = jax.random.PRNGKey(0)
RESNET = ResNet(depth=10, stem="cifar", width=4)
VIT = ViT(patch=8, width=8, depth=3, heads=2, drop_path=0.5)
ENCODERS = {
    "resnet": (ResNet(depth=18, width=4), 8),
    "vit": (ViT(patch=8, width=8, depth=11, heads=2, registers=2, mask_token=True), 11),
    "siglip": (ViT(patch=8, width=8, depth=2, heads=2, pooling="attention"), 2),
    "swin": (Swin(width=32, depths=(1, 2, 11, 1), window=2), 15),
    "efficientnet": (EfficientNet(width=0.25, depth=1.0), 16),
    "convnext": (ConvNeXt(width=8, depths=(1, 11)), 12),
    "mlp": (MLP(), 0),
}


def names_of(encoder):
    x = X.reshape(4, -1) if isinstance(encoder, MLP) else X
    return jax.eval_shape(lambda: encoder.init(RNG, x, train=False))["params"]


@pytest.mark.parametrize("name", ENCODERS)
def test_layers_go_from_the_stem_to_the_last_norm(name):
    encoder, blocks = ENCODERS[name]
    layer, count = number_layers(names_of(encoder))
    assert count == blocks and set(layer.values()) <= set(range(blocks + 2))
    assert set(range(1, blocks + 1)) <= set(layer.values())
    expected = {
        "resnet": {"stem_conv": 0, "stem_norm": 0, "stage1_block0": 1, "stage2_block1": 4, "stage4_block1": 8},
        "vit": {
            "patches": 0,
            "cls_token": 0,
            "positions": 0,
            "mask_token": 0,
            "block10": 10,
            "block11": 11,
            "norm": 12,
        },
        "siglip": {"positions": 0, "block1": 1, "block2": 2, "norm": 3, "pool": 3},
        "swin": {
            "patches_norm": 0,
            "stage2_merge": 2,
            "stage2_norm": 2,
            "stage3_block11": 14,
            "stage4_merge": 15,
            "norm": 16,
        },
        "efficientnet": {"stem_norm": 0, "stage1_block1": 1, "stage7_block1": 16, "last_conv": 17, "last_norm": 17},
        "convnext": {
            "stem": 0,
            "stem_norm": 0,
            "stage1_block1": 1,
            "stage2_norm": 2,
            "stage2_downsample": 2,
            "stage2_block11": 12,
            "norm": 13,
        },
        "mlp": {"linear0": 0, "linear_out": 0},
    }[name]
    assert {part: layer[part] for part in expected} == expected


def initial(module):
    return jax.jit(functools.partial(module.init, train=False))(RNG, X)


def gradient_and_stats(module, variables):
    """Of a step in training mode: the gradient by the parameters and by the images, and the new statistics."""

    def loss(params, x):
        rngs = {"drop_path": jax.random.PRNGKey(1)}
        given = {**variables, "params": params}
        y, updated = module.apply(given, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return jnp.sum(jnp.sin(y)), updated.get("batch_stats", {})

    (by_params, by_images), stats = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables["params"], X)
    return by_params, by_images, stats


@pytest.mark.parametrize(
    "encoder", [RESNET, VIT, RESNET.clone(remat="block"), VIT.clone(scan=True)], ids=["resnet", "vit", "remat", "loop"]
)
def test_only_the_last_block_and_what_follows_it_learn_and_keep_statistics(encoder):
    module = Frozen(encoder, but_last=1)
    noise = np.random.default_rng(0)
    # Residual branches that begin as zero would have no gradient anyway.
    variables = jax.tree.map(
        lambda x: x + 0.1 * noise.normal(size=x.shape).astype(np.float32) ** 2, jax.device_get(initial(module))
    )
    gradient, _, stats = gradient_and_stats(module, variables)
    layer, blocks = number_layers(whole(variables)["params"])
    assert set(gradient) == {name for name in layer if layer[name] >= blocks}
    assert all(any(np.any(g) for g in jax.tree.leaves(part)) for part in gradient.values())
    for name, part in stats.items():
        before = variables["batch_stats"][name]
        moved = [np.any(x != y) for x, y in zip(jax.tree.leaves(part), jax.tree.leaves(before), strict=True)]
        assert all(moved) if layer.get(name, 0) >= blocks else not any(moved), name
    assert stats.keys() == variables["batch_stats"].keys()


def test_all_frozen_is_the_module_in_evaluation():
    variables = initial(Frozen(RESNET))
    gradient, by_images, stats = gradient_and_stats(Frozen(RESNET), variables)
    assert gradient == {} and np.any(by_images)
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(variables["batch_stats"]), strict=True):
        np.testing.assert_array_equal(x, y)
    train = jax.jit(lambda v: Frozen(RESNET).apply(v, X, train=True, mutable=["batch_stats"])[0])
    evaluation = jax.jit(lambda v: RESNET.apply(whole(v), X, train=False))
    np.testing.assert_allclose(train(variables), evaluation(variables), rtol=1e-5, atol=1e-6)


def test_statistics_may_stay_where_blocks_learn():
    module = Frozen(RESNET, but_last=1, statistics=True)
    variables = initial(module)
    gradient, _, stats = gradient_and_stats(module, variables)
    assert any(np.any(g) for g in jax.tree.leaves(gradient["stage4_block0"]))
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(variables["batch_stats"]), strict=True):
        np.testing.assert_array_equal(x, y)
    train = jax.jit(lambda v: module.apply(v, X, train=True, mutable=["batch_stats"])[0])
    evaluation = jax.jit(lambda v: RESNET.apply(whole(v), X, train=False))
    np.testing.assert_allclose(train(variables), evaluation(variables), rtol=1e-5, atol=1e-6)


def test_begins_with_a_file_and_has_the_settings_of_its_module(tmp_path):
    variables, path = initial(RESNET), tmp_path / "student.safetensors"
    path.write_bytes(weights_bytes({"encoder": jax.device_get(variables)}))
    module = Frozen(Pretrained(RESNET, str(path)), but_last=2)
    loaded = jax.jit(lambda: module.init(jax.random.PRNGKey(5), X, train=False))()
    for x, y in zip(jax.tree.leaves(whole(loaded)), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(x, y)
    assert module.features == RESNET.features
    assert norm_groups(module) == 1 and norm_groups(Frozen(VIT)) is None


@pytest.mark.parametrize("encoder, count, blocks", [(RESNET, 5, 4), (RESNET, -1, 4), (MLP(), 1, 0)])
def test_more_blocks_than_there_are_is_refused(encoder, count, blocks):
    with pytest.raises(UserError, match=f"but_last={count} must be from 0 to {blocks}, the number of"):
        jax.eval_shape(lambda: Frozen(encoder, count).init(RNG, X.reshape(4, -1) if blocks == 0 else X, train=False))
