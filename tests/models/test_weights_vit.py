"""Weights of vision transformers in others' names, without the others: round trips and what is refused."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssljax.models import ViT
from ssljax.models.weights.names import to_ours, to_timm
from ssljax.models.weights.vit import layout
from ssljax.types import UserError

TINY = ViT(width=16, depth=2, heads=2, patch=4)
MODULES = {
    "plain": TINY,
    "layer-scale": TINY.clone(layer_scale=0.1),
    "mask-token": TINY.clone(mask_token=True),
    "moco-v3": TINY.clone(positions="sincos", frozen_patches=True),
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
    if module.registers:  # timm has one tensor for the two
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
    "module, name, tensor, sentence",
    [
        (TINY, "pos_embed", np.zeros((1, 12, 16)), "^pos_embed has 12 positions"),
        (MODULES["moco-v3"], "patch_embed.proj.bias", np.ones(16), "^frozen_patches=True has no bias"),
    ],
)
def test_what_cannot_be_is_refused(module, name, tensor, sentence):
    tensors = to_timm(layout(module), variables(module))
    with pytest.raises(UserError, match=sentence):
        to_ours(layout(module), {**tensors, name: tensor.astype(np.float32)})
