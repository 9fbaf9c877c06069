"""Weights of vision transformers in others' names, without the others: round trips and what is refused."""

import functools
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssljax.models import ViT
from ssljax.models.vit import sincos
from ssljax.models.weights.architecture import alternatives
from ssljax.models.weights.names import to_ours, to_timm
from ssljax.models.weights.vit import guess, layout
from ssljax.types import UserError

TINY = ViT(width=16, depth=2, heads=2, patch=4)
MODULES = {
    "plain": TINY,
    "layer-scale": TINY.clone(layer_scale=0.1),
    "mask-token": TINY.clone(mask_token=True),
    "moco-v3": TINY.clone(positions="sincos", frozen_patches=True),
    "dinov3": TINY.clone(positions="rope", layer_scale=0.1, registers=3),
    "dinov3-plus": TINY.clone(positions="rope", registers=3, qkv_bias=False, feed_forward="swiglu"),
    "giant": TINY.clone(feed_forward="swiglu", hidden=24),
    "siglip": TINY.clone(pooling="attention"),
    "registers": TINY.clone(registers=3, layer_scale=0.1),
}


@functools.cache
def variables(module):
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), np.ones((1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=x.shape).astype(np.float32) for name, x in flatten_dict(shapes, sep="/").items()}


@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name):
    module = MODULES[name]
    ours, tensors = variables(module), to_timm(layout(module), variables(module))
    back, report = to_ours(layout(module), tensors)
    assert report.complete and not report.ignored and back.keys() == ours.keys()
    if module.registers and module.positions == "learnt":  # timm has one tensor for the two
        assert not back["params/cls_position"].any()
        ours = {**ours, "params/cls_token": ours["params/cls_token"] + ours["params/cls_position"]}
        ours["params/cls_position"] = back["params/cls_position"]
    jax.tree.map(np.testing.assert_array_equal, back, ours)
    again = to_timm(layout(module), back)
    jax.tree.map(np.testing.assert_array_equal, again, tensors)


def test_classifiers_are_ignored_and_the_rest_is_reported():
    tensors = to_timm(layout(TINY), variables(TINY))
    norm = tensors.pop("norm.weight")
    _, report = to_ours(layout(TINY), {**tensors, "head.weight": norm, "fc_norm.weight": norm})
    assert (report.ignored, report.missing, report.unknown) == (("head.weight",), ("norm.weight",), ("fc_norm.weight",))


def test_names_of_dinov2():
    """Chunks of blocks, registers, and a position of [CLS], which timm adds to the token."""
    module = MODULES["registers"]
    tensors = to_timm(layout(module), variables(module))
    position = np.full((1, 1, 16), 0.5, np.float32)
    theirs = {name.replace("blocks.", "blocks.0."): x for name, x in tensors.items()}
    theirs["register_tokens"] = theirs.pop("reg_token")
    theirs["pos_embed"] = np.concatenate([position, theirs["pos_embed"]], axis=1)
    theirs["mask_token"] = position[0]
    ours, report = to_ours(layout(module), theirs)
    assert report.complete and report.ignored == ("mask_token",)
    expected, _ = to_ours(layout(module), {**tensors, "cls_token": tensors["cls_token"] + position})
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize(
    "module",
    [
        ViT("Ti"),
        ViT("S", heads=12, positions="sincos", frozen_patches=True),
        ViT("S", patch=14, depth=3, layer_scale=1e-5, registers=4),
        ViT("g", patch=14, depth=1, layer_scale=1e-5, feed_forward="swiglu"),
        ViT("S", positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5, feed_forward="swiglu"),
        ViT("B", depth=1, positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5, qkv_bias=False),
        ViT("So400m", patch=14, depth=1, pooling="attention", feed_forward="gelu_tanh"),
        ViT(width=128, heads=2, depth=2, hidden=40),
    ],
)
def test_a_file_says_which_vit_it_is_of(module):
    side = 2 * module.patch
    init, x = functools.partial(module.init, train=False), np.ones((1, side, side, 3))
    shapes = flatten_dict(jax.eval_shape(init, jax.random.PRNGKey(0), x), sep="/")
    tensors = to_timm(layout(module), {name: np.ones(x.shape, np.float32) for name, x in shapes.items()})
    if module.positions == "sincos":  # MoCo v3's files have them
        tensors["pos_embed"] = np.concatenate([np.zeros((1, 384)), sincos((2, 2), 384)])[None]
    assert guess(tensors) == module


@pytest.mark.parametrize("shape", [(), (0,), (3,), (1, 5, 7), (2, 2, 2, 2)])
def test_shapes_that_fit_nothing_are_no_vit_or_some_vit(shape):
    tensors = to_timm(layout(TINY), variables(TINY))
    for name in tensors:
        guess({**tensors, name: np.zeros(shape, np.float32)})


def test_names_of_dinov3():
    """FAIR's: one bias for queries, keys and values, the keys' masked, and buffers."""
    module = MODULES["dinov3"]
    tensors = to_timm(layout(module), variables(module))
    theirs = {re.sub(r"gamma_(\d)", r"ls\1.gamma", name): x for name, x in tensors.items() if "_bias" not in name}
    theirs["storage_tokens"] = theirs.pop("reg_token")
    for i in range(2):
        query, value = (tensors[f"blocks.{i}.attn.{part}_bias"] for part in "qv")
        theirs[f"blocks.{i}.attn.qkv.bias"] = np.concatenate([query, np.zeros_like(query), value])
        theirs[f"blocks.{i}.attn.qkv.bias_mask"] = np.ones(48, np.float32)
    theirs["rope_embed.periods"] = np.ones(2, np.float32)
    ours, report = to_ours(layout(module), theirs)
    assert report.complete and len(report.ignored) == 3
    jax.tree.map(np.testing.assert_array_equal, ours, to_ours(layout(module), tensors)[0])


@pytest.mark.parametrize(
    "module, name, tensor, sentence",
    [
        (TINY, "pos_embed", np.zeros((1, 12, 16)), "^pos_embed has 12 positions"),
        (TINY, "patch_embed.proj.weight", np.zeros((16, 48)), r"^patch_embed.proj.weight is of shape \(16, 48\)"),
        (TINY, "blocks.0.attn.qkv.weight", np.zeros((47, 16)), "^blocks.0.attn.qkv.weight is of shape"),
        (TINY, "cls_token", np.zeros((1, 1, 8)), "^cls_token is of shape"),
        (MODULES["moco-v3"], "patch_embed.proj.bias", np.ones(16), "^frozen_patches=True has no bias"),
    ],
)
def test_what_cannot_be_is_refused(module, name, tensor, sentence):
    tensors = to_timm(layout(module), variables(module))
    with pytest.raises(UserError, match=sentence):
        to_ours(layout(module), {**tensors, name: tensor.astype(np.float32)})


def test_names_of_open_clips_siglip():
    module = MODULES["siglip"]
    tensors = to_timm(layout(module), variables(module))
    text = {"text.token_embedding.weight": np.ones((2, 2), np.float32), "logit_bias": np.ones((), np.float32)}
    theirs = {f"visual.trunk.{name}": x for name, x in tensors.items()} | text
    ours, report = to_ours(layout(module), theirs)
    assert report.complete and set(report.ignored) == set(text)
    jax.tree.map(np.testing.assert_array_equal, ours, to_ours(layout(module), tensors)[0])
    assert (
        len(alternatives(theirs, module.clone(feed_forward="gelu_tanh"))) == 2
    )  # the kind of GELU is not in the tensors
