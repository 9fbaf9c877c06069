"""Swin transformers in timm's names, and in those of their authors and of Hugging Face."""

import math
import re
from typing import get_args

import numpy as np

from ssljax.models.swin import Swin
from ssljax.models.weights.names import Entry, Layout, Tensors, fused, join, linear, norm, patches, rename, same

_HUGGING_FACE = (
    (r"^swin\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.layers\.", "layers."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:self\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1_proj."),
    (r"\.attention\.(?:self\.|relative_position_bias\.)", ".attn."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
_PATCH = 4


def layout(module: Swin) -> Layout:
    """The tensors of a Swin of these settings."""
    _, depths = module.sizes()
    entries = [
        *patches("patch_embed.proj", "patches", _PATCH),
        *norm("patch_embed.norm", "patches_norm"),
        *norm("norm", "norm"),
    ]
    for stage, depth in enumerate(depths):
        if stage > 0:
            entries += _merge(f"layers.{stage}.downsample", f"params/stage{stage + 1}")
        for i in range(depth):
            entries += _block(f"layers.{stage}.blocks.{i}", f"stage{stage + 1}_block{i + 1}")
    ignored = (r"head\..*", r"classifier\..*", r".*\.relative_position_index", r".*\.attn_mask")
    return Layout(tuple(entries), ignored, (_timm_names,))


def _merge(theirs: str, ours: str) -> list[Entry]:
    """Others read the four tokens that are merged column by column, we row by row."""

    def swapped(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :].reshape(x.shape)

    def entry(name: str, to: str) -> Entry:
        return Entry(f"{theirs}.{name}", (f"{ours}_{to}",), lambda x: (swapped(x),), lambda xs: swapped(xs[0]))

    kernel = Entry(
        f"{theirs}.reduction.weight",
        (f"{ours}_merge/kernel",),
        lambda x: (swapped(x).T,),
        lambda xs: swapped(xs[0].T),
    )
    return [entry("norm.weight", "norm/scale"), entry("norm.bias", "norm/bias"), kernel]


def _block(theirs: str, ours: str) -> list[Entry]:
    return [
        *norm(f"{theirs}.norm1", f"{ours}/norm1"),
        same(f"{theirs}.attn.relative_position_bias_table", f"params/{ours}/position_bias"),
        *fused(f"{theirs}.attn.qkv", f"{ours}/attention", ("query", "key", "value")),
        *linear(f"{theirs}.attn.proj", f"{ours}/attention/out"),
        *norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *linear(f"{theirs}.mlp.fc1", f"{ours}/feed_forward/linear1"),
        *linear(f"{theirs}.mlp.fc2", f"{ours}/feed_forward/linear2"),
    ]


def _timm_names(tensors: Tensors) -> Tensors:
    tensors = rename(tensors, _HUGGING_FACE)
    try:
        tensors = join(tensors, r"layers\.\d+\.blocks\.\d+\.attn", ("q_proj", "k_proj", "v_proj"), "qkv")
    except ValueError:  # of sizes that do not fit each other: the names are then reported
        return tensors
    if "layers.0.downsample.reduction.weight" not in tensors:
        return tensors
    # All but timm count a stage's merging to the stage before.
    later = re.compile(r"^layers\.(\d+)\.downsample")
    return {later.sub(lambda match: f"layers.{int(match[1]) + 1}.downsample", name): x for name, x in tensors.items()}


def guess(tensors: Tensors) -> Swin | None:
    """The Swin of which these look like the weights, if any."""
    tensors = _timm_names(tensors)
    table = tensors.get("layers.0.blocks.0.attn.relative_position_bias_table", np.zeros(())).shape
    width = np.size(tensors.get("patch_embed.norm.weight", ()))
    if len(table) != 2 or not table[0] or not width or width % 32:
        return None
    found = (re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name) for name in tensors)
    blocks = {match.groups() for match in found if match}
    stages = [stage for stage, _ in blocks]
    depths = tuple(stages.count(stage) for stage in sorted(set(stages), key=int))
    window = (math.isqrt(table[0]) + 1) // 2
    variants = (Swin(variant, window=window) for variant in get_args(Swin.__annotations__["variant"]))
    unnamed = Swin(window=window, width=width, depths=depths)
    return next((module for module in variants if module.sizes() == (width, depths)), unnamed)
