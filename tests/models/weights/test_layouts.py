"""Each family's table of names: every variable has one tensor in timm's layout, and comes back from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssljax.models import ConvNeXt, EfficientNet, ResNet
from ssljax.models.weights import names
from ssljax.models.weights.layouts import guess, layout_of

# a module, and some of the tensors that timm's model has
FAMILIES = {
    "resnet": (ResNet(depth=18, width=8), ["conv1.weight", "layer2.0.downsample.1.running_var"]),
    "bottleneck": (ResNet(depth=50, width=8), ["layer1.0.downsample.0.weight", "layer4.2.bn3.bias"]),
    "efficientnet": (
        EfficientNet("B1", width=0.1),
        ["blocks.0.1.conv_pw.weight", "blocks.1.0.se.conv_reduce.bias", "blocks.6.1.bn3.running_mean"],
    ),
    "convnext": (
        ConvNeXt(width=8, depths=(1, 2)),
        ["stem.0.bias", "stages.0.blocks.0.conv_dw.bias", "stages.1.downsample.1.weight", "stages.1.blocks.1.gamma"],
    ),
    "lite": (EfficientNet("lite1", width=0.1), ["conv_stem.weight", "blocks.6.0.conv_pwl.weight"]),
}


def variables(module):
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), jnp.zeros((2, 64, 64, 3)))
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in flatten_dict(shapes, sep="/").items()
    }


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_variables_come_back_from_timms_layout(family):
    module, some = FAMILIES[family]
    ours, table = variables(module), layout_of(module)
    theirs = names.to_timm(table, ours)
    assert len(theirs) == len(ours) and set(some) <= theirs.keys()
    again, report = names.to_ours(table, theirs)
    assert report.complete and len(report.matched) == len(ours)
    assert_equal(again, ours)


def test_weights_of_the_lite_packages_have_names_of_their_own():
    table = layout_of(EfficientNet("lite0", width=0.1))
    tensors = names.to_timm(table, variables(EfficientNet("lite0", width=0.1)))
    theirs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn2.bias": "blocks.0.0.bn2.bias",
        "_blocks.1._bn0.weight": "blocks.1.0.bn1.weight",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
        "_bn1.running_var": "bn2.running_var",
    }
    file = {name: tensors[timm] for name, timm in theirs.items()} | {"_fc.bias": np.zeros(3)}
    _, report = names.to_ours(table, file)
    assert sorted(report.matched) == sorted(theirs.values()) and len(report.missing) == 245 - 7
    assert report.ignored == ("classifier.bias",) and not report.unknown


@pytest.mark.parametrize("module", [EfficientNet("B2"), EfficientNet("lite0"), EfficientNet("lite3"), ConvNeXt("B")])
def test_a_file_looks_like_the_encoder_that_it_is_from(module):
    tensors = names.to_timm(layout_of(module), variables(module))
    head = "head.fc.weight" if isinstance(module, ConvNeXt) else "classifier.weight"
    assert guess(tensors | {head: np.zeros((10, 1))}) == module
    tensors.popitem()
    assert guess(tensors) is None
