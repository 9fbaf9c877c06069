"""Vision transformers in others' names: renamed to timm's.

FAIR's DINO, MoCo v3 and MAE are timm's already. A name that no rule knows stays as it is, and is reported.
"""

import re
from collections.abc import Sequence

import numpy as np

from ssljax.models.weights.names import Tensors

_RULES = (
    # Hugging Face: the models' own prefixes, then the names of all generations of transformers
    (r"^(?:(?:vit|deit|dinov2|dinov2_with_registers)\.)", ""),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1_proj."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    # FAIR: DINOv2's registers and chunks of blocks, iBOT's mask token
    (r"^register_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"^masked_embed$", "mask_token"),
)


def torch_names(tensors: Tensors) -> Tensors:
    """A PyTorch file's tensors under timm's names, those of timm unchanged."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return _fold_cls_position(_join(renamed, r"blocks\.\d+\.attn", ("q_proj", "k_proj", "v_proj"), "qkv"))


def _join(tensors: Tensors, where: str, parts: Sequence[str], whole: str) -> Tensors:
    """Joins linear layers `parts`, of which there is each, to the one that timm has."""
    joined = dict(tensors)
    for name in tensors:
        if match := re.fullmatch(rf"({where}\.){parts[0]}(\.\w+)", name):
            names = [f"{match[1]}{part}{match[2]}" for part in parts]
            if all(name in tensors for name in names):
                joined[f"{match[1]}{whole}{match[2]}"] = np.concatenate([joined.pop(name) for name in names])
    return joined


def _fold_cls_position(tensors: Tensors) -> Tensors:
    """With registers, timm has no position for [CLS]: DINOv2's is added to the token itself."""
    cls, positions = tensors.get("cls_token"), tensors.get("pos_embed")
    if "reg_token" not in tensors or cls is None or positions is None or positions.ndim != 3:
        return tensors
    if int(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]:
        return tensors
    return {**tensors, "cls_token": cls + positions[:, :1], "pos_embed": positions[:, 1:]}
