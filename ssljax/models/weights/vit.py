"""Vision transformers in timm's names, and in those of FAIR's DINO and DINOv2, of MoCo v3 and of Hugging Face."""

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np

from ssljax.models.vit import ViT, cubic
from ssljax.models.weights.names import Entry, Layout, Tensors, linear, norm, same
from ssljax.models.weights.vit_dialects import torch_names
from ssljax.types import UserError


def layout(module: ViT) -> Layout:
    """The tensors of a ViT of these settings.

    With registers, timm adds no position to [CLS]: ours is then part of timm's `cls_token`, and zero after an import.
    """
    width, depth, _ = module.sizes()
    entries = [*_cls_and_positions(module, width), *_patches(module, width), *norm("norm", "norm")]
    if module.registers:
        entries.append(_tokens("reg_token", "params/register_tokens", (module.registers, width)))
    if module.mask_token:
        entries.append(_tokens("mask_token", "params/mask_token", (width,)))
    for i in range(depth):
        entries += _block(module, f"blocks.{i}", f"block{i + 1}")
    ignored = (r"head\..*", r"pooler\..*", r"classifier\..*")
    ignored += () if module.mask_token else ("mask_token",)
    ignored += ("pos_embed",) if module.positions == "sincos" else ()
    return Layout(tuple(entries), ignored, (torch_names,))


def _cls_and_positions(module: ViT, width: int) -> list[Entry]:
    cls = _tokens("cls_token", "params/cls_token", (width,))
    if module.positions == "sincos":
        return [cls]
    learnt = "params/cls_position", "params/positions"
    if not module.registers:
        return [cls, Entry("pos_embed", learnt, _split_positions, _join_positions)]
    return [
        Entry(
            "cls_token",
            ("params/cls_token", "params/cls_position"),
            lambda x: (x.reshape(-1), np.zeros(width, x.dtype)),
            lambda xs: (xs[0] + xs[1])[None, None],
        ),
        Entry("pos_embed", learnt[1:], lambda x: _split_positions(x)[1:], lambda xs: xs[0].reshape(1, -1, width)),
    ]


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
    """A convolution [C, 3, P, P] is our kernel [P * P * 3, C]."""

    def to_ours(x: np.ndarray) -> tuple[np.ndarray]:
        return (x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),)

    def to_theirs(xs: Sequence[np.ndarray]) -> np.ndarray:
        return xs[0].reshape(module.patch, module.patch, -1, width).transpose(3, 2, 0, 1)

    theirs = "patch_embed.proj"
    if not module.frozen_patches:
        kernel = Entry(f"{theirs}.weight", ("params/patches/kernel",), to_ours, to_theirs)
        return kernel, same(f"{theirs}.bias", "params/patches/bias")
    # MoCo v3 freezes a bias of zero along with the kernel.
    kernel = Entry(f"{theirs}.weight", ("batch_stats/patches",), to_ours, to_theirs)
    return kernel, Entry(f"{theirs}.bias", (), _refuse_bias, lambda _: np.zeros(width, np.float32))


def _refuse_bias(x: np.ndarray) -> tuple[()]:
    if np.any(x):
        raise UserError("frozen_patches=True has no bias, but patch_embed.proj.bias is not zero: set it to False")
    return ()


def _block(module: ViT, theirs: str, ours: str) -> list[Entry]:
    entries = [
        *norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *fused(f"{theirs}.attn.qkv", f"{ours}/attention", ("query", "key", "value")),
        *linear(f"{theirs}.attn.proj", f"{ours}/attention/out"),
        *norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *linear(f"{theirs}.mlp.fc1", f"{ours}/feed_forward/linear1"),
        *linear(f"{theirs}.mlp.fc2", f"{ours}/feed_forward/linear2"),
    ]
    if module.layer_scale is not None:
        entries += [same(f"{theirs}.ls{k}.gamma", f"params/{ours}/layer_scale{k}/scale") for k in (1, 2)]
    return entries


def fused(theirs: str, ours: str, parts: Sequence[str]) -> tuple[Entry, Entry]:
    """One linear layer with bias, [out * parts, in], that is several of ours, one after the other."""

    def split(x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, len(parts))

    weight = Entry(
        f"{theirs}.weight",
        tuple(f"params/{ours}/{part}/kernel" for part in parts),
        lambda x: [part.T for part in split(x)],
        lambda xs: np.concatenate([x.T for x in xs]),
    )
    bias = Entry(f"{theirs}.bias", tuple(f"params/{ours}/{part}/bias" for part in parts), split, np.concatenate)
    return weight, bias


def _tokens(theirs: str, ours: str, shape: tuple[int, ...]) -> Entry:
    """Learnt tokens f32[shape], which others' files give leading axes of length 1."""
    axes = (1,) * (3 - len(shape))
    return Entry(theirs, (ours,), lambda x: (x.reshape(shape),), lambda xs: xs[0].reshape(axes + shape))


def guess(tensors: Tensors) -> ViT | None:
    """The ViT of which these look like the weights, if any; heads are taken to have 64 channels."""
    tensors = torch_names(tensors)
    kernel = tensors.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim != 4 or "cls_token" not in tensors or "blocks.0.norm1.weight" not in tensors:
        return None
    width, patch = kernel.shape[0], kernel.shape[2]
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    registers = tensors["reg_token"].shape[-2] if "reg_token" in tensors else 0
    layer_scale = 1e-5 if "blocks.0.ls1.gamma" in tensors else None
    found = ViT(width=width, depth=depth, heads=width // 64, patch=patch, registers=registers, layer_scale=layer_scale)
    plain = (
        found.clone(variant=variant, width=None, depth=None, heads=None)
        for variant in get_args(ViT.__annotations__["variant"])
    )
    return next((module for module in plain if module.sizes() == found.sizes()), found)
