"""Vision transformers in timm's names: the plain ones, DeiT, DINO to DINOv3, MoCo v3, and SigLIP's vision towers."""

import functools
import math
import re
from collections.abc import Sequence
from typing import get_args

import numpy as np

from ssljax.models.vit import ViT, cubic, sincos
from ssljax.models.weights.names import Entry, Layout, Tensors, fused, linear, norm, patches, same
from ssljax.models.weights.vit_dialects import timm_names
from ssljax.types import UserError

_TEXT = (r"text_model\..*", r"text\..*", "logit_scale", "logit_bias", r"params/txt/.*", "params/t", "params/b")

_PATCHES, _FEED_FORWARD = "patch_embed.proj", ("blocks.0.mlp.fc1", "blocks.0.mlp.fc2")


def layout(module: ViT) -> Layout:
    """The tensors of a ViT of these settings: those of timm's `VisionTransformer`, or with rope of its `Eva`.

    With registers, timm adds no position to [CLS]: ours is then part of timm's `cls_token`, and zero after an import.
    """
    width, depth, _, _ = module.sizes()
    rope = module.positions == "rope"
    entries = [*_cls_and_positions(module, width), *_patches(module, width), *norm("norm", "norm")]
    if module.registers:
        entries.append(_tokens("reg_token", "params/register_tokens", (module.registers, width)))
    if module.mask_token:
        entries.append(_tokens("mask_token", "params/mask_token", (width,)))
    for i in range(depth):
        entries += _block(module, f"blocks.{i}", f"block{i + 1}")
    if module.pooling == "attention":
        entries += _pool(module, width)
    ignored = (r"head\..*", r"pooler\..*", r"classifier\..*", *_TEXT)
    ignored += () if module.mask_token else ("mask_token",)
    ignored += ("pos_embed",) if module.positions == "sincos" else ()
    ignored += (r"rope_embed\.periods|.*\.bias_mask|local_cls_norm\..*",) if rope else ()
    return Layout(tuple(entries), ignored, (functools.partial(timm_names, eva=rope),))


def _cls_and_positions(module: ViT, width: int) -> list[Entry]:
    with_cls, learnt = module.pooling == "cls", module.positions == "learnt"
    cls = _tokens("cls_token", "params/cls_token", (width,))
    both = "params/cls_position", "params/positions"
    if with_cls and learnt and not module.registers:
        return [cls, Entry("pos_embed", both, _split_positions, _join_positions)]
    if with_cls and learnt:
        names = cls.ours[0], both[0]
        split = lambda x: (x.reshape(width), np.zeros(width, x.dtype))  # noqa: E731
        cls = Entry("cls_token", names, split, lambda xs: (xs[0] + xs[1])[None, None])
    patches = Entry("pos_embed", both[1:], lambda x: _split_positions(x)[1:], lambda xs: xs[0].reshape(1, -1, width))
    return [cls] * with_cls + [patches] * learnt


def _split_positions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of [1, N, C] or [1, 1 + N, C], N patches of a square grid: the [C] of [CLS], or zero, and [rows, rows, C]."""
    tokens, width = x.shape[-2:]
    side = math.isqrt(tokens)
    if side**2 not in (tokens, tokens - 1):
        raise UserError(f"pos_embed has {tokens} positions: those of a square grid, with or without [CLS], can be read")
    x = x.reshape(-1, width)
    cls = np.zeros_like(x[0]) if side**2 == tokens else x[0]
    return cls, x[-(side**2) :].reshape(side, side, width)


def _join_positions(xs: Sequence[np.ndarray]) -> np.ndarray:
    cls, positions = xs
    return np.concatenate([cls[None], positions.reshape(-1, cls.size)])[None]


def resized_positions(positions: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Learnt positions f32[rows, columns, C] for another grid: f32[*grid, C], as timm's `resample_abs_pos_embed`.

    That is bicubic with antialiasing and a = -1/2, as in Pillow. In NumPy, because files are read within callbacks.
    """
    rows, columns = (_resize(old, new) for old, new in zip(positions.shape[:2], grid, strict=True))
    return np.einsum("hr,wc,rcf->hwf", rows, columns, positions, optimize=True).astype(positions.dtype)


def _resize(old: int, new: int) -> np.ndarray:
    """f32[new, old], rows that sum to 1: the kernel is as wide as a new cell, and cut off at the edges."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    weights = cubic((centers[:, None] - np.arange(old)[None]) / max(old / new, 1), -0.5)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _patches(module: ViT, width: int) -> tuple[Entry, Entry]:
    weight, bias = patches(_PATCHES, "patches", module.patch)
    if not module.frozen_patches:
        return weight, bias
    # MoCo v3 freezes a bias of zero along with the kernel.
    bias = Entry(bias.theirs, (), _refuse_bias, lambda _: np.zeros(width, np.float32))
    return weight._replace(ours=("batch_stats/patches",)), bias


def _refuse_bias(x: np.ndarray) -> tuple[()]:
    if np.any(x):
        raise UserError("frozen_patches=True has no bias, but patch_embed.proj.bias is not zero: set it to False")
    return ()


def _block(module: ViT, theirs: str, ours: str) -> list[Entry]:
    entries = [
        *norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *_attention(module, f"{theirs}.attn", f"{ours}/attention"),
        *norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *_feed_forward(module, f"{theirs}.mlp", f"{ours}/feed_forward"),
    ]
    if module.layer_scale is not None:
        scales = ("gamma_1", "gamma_2") if module.positions == "rope" else ("ls1.gamma", "ls2.gamma")
        names = (f"params/{ours}/layer_scale{k}/scale" for k in (1, 2))
        entries += map(same, (f"{theirs}.{scale}" for scale in scales), names)
    return entries


def _attention(module: ViT, theirs: str, ours: str) -> list[Entry]:
    parts = "query", "key", "value"
    weight, bias = fused(f"{theirs}.qkv", ours, parts)
    biases = [bias]
    if module.biases() != parts:
        biases = [same(f"{theirs}.{part[0]}_bias", f"params/{ours}/{part}/bias") for part in module.biases()]
    return [weight, *biases, *linear(f"{theirs}.proj", f"{ours}/out")]


def _feed_forward(module: ViT, theirs: str, ours: str) -> list[Entry]:
    last = linear(f"{theirs}.fc2", f"{ours}/linear2")
    if module.feed_forward != "swiglu":
        return [*linear(f"{theirs}.fc1", f"{ours}/linear1"), *last]
    if module.positions == "rope":
        return [*linear(f"{theirs}.fc1_g", f"{ours}/gate"), *linear(f"{theirs}.fc1_x", f"{ours}/linear1"), *last]
    return [*fused(f"{theirs}.fc1", ours, ("gate", "linear1")), *last]


def _pool(module: ViT, width: int) -> list[Entry]:
    return [
        _tokens("attn_pool.latent", "params/pool/probe", (width,)),
        *linear("attn_pool.q", "pool/attention/query"),
        *fused("attn_pool.kv", "pool/attention", ("key", "value")),
        *linear("attn_pool.proj", "pool/attention/out"),
        *norm("attn_pool.norm", "pool/norm"),
        *_feed_forward(module, "attn_pool.mlp", "pool/feed_forward"),
    ]


def _tokens(theirs: str, ours: str, shape: tuple[int, ...]) -> Entry:
    """Learnt tokens f32[shape], which others' files give leading axes of length 1."""
    axes = (1,) * (3 - len(shape))
    return Entry(theirs, (ours,), lambda x: (x.reshape(shape),), lambda xs: xs[0].reshape(axes + shape))


def guess(tensors: Tensors) -> ViT | None:
    """The ViT of which these look like the weights, if any.

    Not in the tensors are the number of heads, which is the published one of that width, and the kind of GELU: by tanh
    in big_vision's files, as Flax has it, and where attention pools, as in SigLIP's own models. With rope, only DINOv3
    is known, by its registers or its periods.
    """
    by_tanh = any(name.endswith("embedding/kernel") for name in tensors)
    tensors = timm_names(tensors, eva=False)
    sizes = {name: tensors[name].shape for name in tensors}
    kernel, first, last = (sizes.get(f"{name}.weight", ()) for name in (_PATCHES, *_FEED_FORWARD))
    pooled, positions = "attn_pool.latent" in tensors, tensors.get("pos_embed")
    if len(kernel) != 4 or len(last) != 2 or 0 in last or not (pooled or "cls_token" in tensors):
        return None
    width, hidden = last
    variants = map(ViT, get_args(ViT.__annotations__["variant"]))
    unnamed = ViT(width=width, heads=width // 64 if width % 64 == 0 else 1)
    found = next((module for module in variants if module.sizes()[0] == width), unnamed).clone(
        patch=kernel[2],
        registers=sizes["reg_token"][-2] if len(sizes.get("reg_token", ())) > 1 else 0,
        layer_scale=1e-5 if {"blocks.0.ls1.gamma", "blocks.0.gamma_1"} & sizes.keys() else None,
        qkv_bias=any(re.fullmatch(r"blocks\.0\.attn\.q.*bias", name) for name in tensors),
        pooling="attention" if pooled else "cls",
        feed_forward="gelu_tanh" if pooled or by_tanh else "gelu",
    )
    if positions is None:
        if not found.registers and "rope_embed.periods" not in tensors:
            return None
        found = found.clone(positions="rope", epsilon=1e-5)
    elif _is_sincos(positions, width):
        found = found.clone(positions="sincos", frozen_patches=not np.any(tensors.get(f"{_PATCHES}.bias")))
    if first != (hidden, width):  # with the gate, or apart from it
        found = found.clone(feed_forward="swiglu")
    if (heads := _OTHER_HEADS.get((width, found.positions, found.pooling))) is not None:
        found = found.clone(heads=heads)
    _, usual_depth, _, usual_hidden = found.sizes()
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    return found.clone(depth=None if depth == usual_depth else depth, hidden=None if hidden == usual_hidden else hidden)


# MoCo v3's S, ViT-H, SigLIP's giant
_OTHER_HEADS = {(384, "sincos", "cls"): 12, (1280, "learnt", "cls"): 16, (1536, "learnt", "attention"): 16}


def _is_sincos(positions: np.ndarray, width: int) -> bool:
    """Whether these are MoCo v3's, which [CLS] has none of."""
    side = math.isqrt(positions.size // width)
    if width % 4 or positions.shape != (1, side**2 + 1, width):
        return False
    expected = np.pad(sincos((side, side), width), ((1, 0), (0, 0)))
    return np.allclose(positions[0], expected, atol=1e-3)
