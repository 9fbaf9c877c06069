"""Weights of Swin transformers in others' names, without the others."""

import functools
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssljax.models import Swin
from ssljax.models.weights.names import to_ours, to_timm
from ssljax.models.weights.swin import guess, layout
from ssljax.types import UserError

TINY = Swin(width=32, depths=(2, 1), window=2)


@functools.cache
def variables(module):
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), np.ones((1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=x.shape).astype(np.float32) for name, x in flatten_dict(shapes, sep="/").items()}


def test_there_and_back():
    tensors = to_timm(layout(TINY), variables(TINY))
    back, report = to_ours(layout(TINY), tensors)
    assert report.complete and not report.ignored and back.keys() == variables(TINY).keys()
    jax.tree.map(np.testing.assert_array_equal, back, variables(TINY))


def test_authors_count_a_merging_to_the_stage_before_and_keep_buffers():
    tensors = to_timm(layout(TINY), variables(TINY))
    theirs = {re.sub(r"layers\.1\.downsample", "layers.0.downsample", name): x for name, x in tensors.items()}
    theirs["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((4, 4), np.int64)
    theirs["layers.0.blocks.1.attn_mask"] = np.zeros((4, 4, 4), np.float32)
    theirs["head.weight"] = np.zeros((10, 64), np.float32)
    ours, report = to_ours(layout(TINY), theirs)
    assert report.complete and len(report.ignored) == 3
    jax.tree.map(np.testing.assert_array_equal, ours, variables(TINY))


@pytest.mark.parametrize("module", [Swin("T"), Swin("B", window=12), TINY])
def test_a_file_says_which_swin_it_is_of(module):
    assert guess(to_timm(layout(module), variables(module))) == module


def test_shapes_that_fit_nothing_are_refused():
    tensors = to_timm(layout(TINY), variables(TINY))
    with pytest.raises(UserError, match=r"^layers.1.downsample.norm.weight is of shape \(6,\)"):
        to_ours(layout(TINY), {**tensors, "layers.1.downsample.norm.weight": np.zeros(6)})
    for name in tensors:
        for shape in ((), (0,), (3,), (1, 5, 7)):
            guess({**tensors, name: np.zeros(shape, np.float32)})
