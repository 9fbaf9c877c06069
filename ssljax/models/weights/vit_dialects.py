"""Vision transformers in others' names: FAIR's, Hugging Face's and big_vision's, renamed to timm's.

FAIR's DINO, MAE and MoCo v3 have timm's names. A name that no rule knows stays as it is, and is reported.
"""

import re

import numpy as np

from ssljax.models.weights.names import Rules, Tensors, join, rename

# Hugging Face's ViT, DINOv2, DINOv3 and SigLIP, by the names of all generations of transformers; open_clip's SigLIP
_HUGGING_FACE: Rules = (
    (r"^(?:vit|deit|dinov2|dinov2_with_registers|dinov3_vit|model|vision_model|visual\.trunk)\.", ""),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings?(?:\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(?:projection\.)?", "patch_embed.proj."),
    (r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
    (r"^(?:post_)?layernorm\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.qkv."),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.(?:attention|self_attn)\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1_proj."),
    (r"\.(?:attention|self_attn)\.(?:output\.dense|o_proj|out_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1_x."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
)
# DINOv2's chunks of blocks, its and DINOv3's registers and SwiGLU, iBOT's mask token
_FAIR: Rules = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"^(?:register|storage)_tokens$", "reg_token"),
    (r"^masked_embed$", "mask_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
# big_vision's models, and the older ones of Vision Transformer's own repository; kernels are in PyTorch's order by now
_BIG_VISION: Rules = (
    (r"^cls$", "cls_token"),
    (r"^(?:Transformer/posembed_input/)?pos_embedding$", "pos_embed"),
    (r"^embedding/", "patch_embed.proj/"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks.\1."),
    (r"^MAPHead_0/", "attn_pool."),
    (r"^attn_pool\.probe$", "attn_pool.latent"),
    (r"^attn_pool\.LayerNorm_0/", "attn_pool.norm/"),
    (r"^attn_pool\.Multi\w+/", "attn_pool."),
    (r"\.LayerNorm_0/", ".norm1/"),
    (r"\.LayerNorm_[12]/", ".norm2/"),
    (r"\.Multi\w+/", ".attn."),
    (r"\.(q|k|v)(?:uery|ey|alue)/", r".\1_proj/"),
    (r"\.out/", ".proj/"),
    (r"\.MlpBlock_\d/Dense_0/", ".mlp.fc1/"),
    (r"\.MlpBlock_\d/Dense_1/", ".mlp.fc2/"),
    (r"/(?:kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)
_EVA: Rules = ((r"\.ls(\d)\.gamma$", r".gamma_\1"),)
_ATTENTION, _MLP, _POOL = r"blocks\.\d+\.attn", r"blocks\.\d+\.mlp", r"attn_pool"


def timm_names(tensors: Tensors, eva: bool) -> Tensors:
    """The tensors of anyone's file under timm's names; with `eva`, under those of timm's Eva, which DINOv3 is.

    They stay as they are, to be reported, where their shapes do not fit each other.
    """
    try:
        named = _big_vision_names(tensors)
        return _torch_names(tensors, eva) if named is None else named
    except (ValueError, IndexError, TypeError):
        return tensors


def _torch_names(tensors: Tensors, eva: bool) -> Tensors:
    """Of a PyTorch file; timm's own stay."""
    rules = (*_HUGGING_FACE, *_FAIR, *(_EVA if eva else ()))
    tensors = rename(tensors, rules)
    if not any(".fc1_g." in name for name in tensors):  # Hugging Face's DINOv3 has an up_proj without a gate_proj, too
        tensors = rename(tensors, ((r"\.fc1_x\.", ".fc1."),))
    tensors = join(tensors, _ATTENTION, ("q_proj", "k_proj", "v_proj"), "qkv")
    if eva:
        tensors = dict(rename(tensors, ((r"\.attn\.(q|v)_proj\.bias$", r".attn.\1_bias"),)))
        for name in [name for name in tensors if re.fullmatch(rf"{_ATTENTION}\.qkv\.bias", name)]:
            query, key, value = np.split(tensors[name], 3)
            mask = tensors.get(f"{name}_mask")  # FAIR multiplies the bias by it: that of the keys is left out
            if np.any(key) and (mask is None or np.any(np.nan_to_num(np.split(mask, 3)[1]))):
                continue  # another network, in which it is of use: it is reported as unknown
            del tensors[name]
            tensors |= {name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): value}
    else:
        tensors = join(tensors, _MLP, ("fc1_g", "fc1_x"), "fc1")
    return _pool(_fold_cls_position(tensors))


def _big_vision_names(tensors: Tensors) -> Tensors | None:
    """Of a big_vision image model, or of the image tower of two; None if it is none."""
    prefixes = ("params/img/", "opt/target/", "params/", "img/", "")
    prefix = next((prefix for prefix in prefixes if f"{prefix}embedding/kernel" in tensors), None)
    if prefix is None:
        return None
    own, others = {}, {}
    for name, x in tensors.items():
        if not name.startswith(prefix):
            others[name] = x
        elif match := re.fullmatch(r"(Transformer/encoderblock)(/.+)", short := name.removeprefix(prefix)):
            # From a loop over the blocks, which stacks their parameters.
            own |= {f"{match[1]}_{i}{match[2]}": part for i, part in enumerate(x)}
        else:
            own[short] = x
    renamed = rename({name: _torch_order(name, x) for name, x in own.items()}, _BIG_VISION)
    return {**others, **_torch_names(renamed, eva=False)}


def _torch_order(name: str, x: np.ndarray) -> np.ndarray:
    if name.endswith("embedding/kernel"):
        return x.transpose(3, 2, 0, 1)
    if re.search(r"/(query|key|value)/bias$", name):
        return x.reshape(-1)
    if not name.endswith("/kernel"):
        return x
    return (x.reshape(-1, x.shape[-1]) if name.endswith("/out/kernel") else x.reshape(len(x), -1)).T


def _pool(tensors: Tensors) -> Tensors:
    """Queries apart from keys and values, where attention pools."""
    tensors = dict(join(tensors, _POOL, ("k_proj", "v_proj"), "kv"))
    for kind in ("weight", "bias"):
        if (query := tensors.pop(f"attn_pool.q_proj.{kind}", None)) is not None:
            tensors[f"attn_pool.q.{kind}"] = query
        if (fused := tensors.pop(f"attn_pool.qkv.{kind}", None)) is not None:
            query, *others = np.split(fused, 3)
            tensors |= {f"attn_pool.q.{kind}": query, f"attn_pool.kv.{kind}": np.concatenate(others)}
    return tensors


def _fold_cls_position(tensors: Tensors) -> Tensors:
    """With registers, timm has no position for [CLS]: DINOv2's is added to the token itself."""
    cls, positions = tensors.get("cls_token"), tensors.get("pos_embed")
    if "reg_token" not in tensors or cls is None or positions is None or positions.ndim != 3:
        return tensors
    if int(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]:
        return tensors
    return {**tensors, "cls_token": cls + positions[:, :1], "pos_embed": positions[:, 1:]}
