"""Which architecture a file's weights are of, where it is said: by timm, by Hugging Face, or by `ssljax import`.

Weights of another network may have the same names and shapes, and give other features: padding, the epsilon of norms
and the kind of GELU are not in the tensors.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax.models.convnext import ConvNeXt
from ssljax.models.efficientnet import EfficientNet
from ssljax.models.resnet import ResNet
from ssljax.models.swin import Swin
from ssljax.models.text import TextTransformer
from ssljax.models.vit import ViT
from ssljax.models.weights.names import Tensors
from ssljax.models.weights.preprocessing import beside
from ssljax.types import UserError

# timm's names of what ours are: others of timm's share the tensors, and not the network (resnetaa50, vit_..._rope_...)
_TIMM = {
    ResNet: r"(tv_)?resnet\d+",
    EfficientNet: r"(?P<tensorflow>tf_)?efficientnet_(b[0-4]|lite[0-4])",
    ConvNeXt: r"convnext_(tiny|small|base|large|xlarge)",
    Swin: r"swin_(tiny|small|base|large)_patch4_window\d+_\d+",
    ViT: r"(vit|deit|deit3|flexivit)_[a-z0-9]+(_plus|_plusplus)?(_patch\d+)?(_reg\d+)?"
    r"(_siglip|_dinov2|(?P<rope>_dinov3(_qkvb)?))?(_\d+)?",
}
# timm's SigLIPs whose GELU is by tanh
_TANH = r"vit_(base_patch32|large_patch16_siglip_512|so400m_patch16|giantopt).*"
_ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}  # Hugging Face's names
_TEXT_ACTIVATIONS = _ACTIVATIONS | {"quick_gelu": "gelu_sigmoid"}
_POOLS = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}  # sentence-transformers' names
_DECIDING = (
    "conventions",
    "feed_forward",
    "positions",
    "epsilon",
    "heads",
    "position_offset",
    "causal",
    "pad_token",
)  # what a module's tensors do not tell


def stated_settings(path: str, metadata: Mapping[str, str], module: Any) -> dict[str, Any]:
    """Settings of a module that its tensors do not tell, as the file or the config.json beside it states them.

    Raises UserError if what is stated is another architecture than the module's, or one that ssljax has not.
    """
    try:
        if "module" in metadata:
            return _of_ours(json.loads(metadata["module"]), module)
        config = beside(path, "config.json")
        if isinstance(name := config.get("architecture"), str):
            return _of_timm(name.partition(".")[0], module)
        if isinstance(module, TextTransformer):
            return _of_hugging_face_text(config.get("text_config") or config, module)
        return _of_hugging_face(config.get("vision_config") or config, module)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"weights={path}: what is said of their architecture cannot be read ({error})") from None
    except UserError as error:
        raise UserError(f"weights={path}: {error}") from None


def contradicted(module: Any, stated: Mapping[str, Any]) -> bool:
    """Whether a module has other settings than those stated."""
    if isinstance(module, EfficientNet):
        return module.clone(**stated).padding != module.padding
    if isinstance(module, ViT):
        return module.clone(**stated).sizes() != module.sizes() or any(
            getattr(module, field) != value for field, value in stated.items() if field != "heads"
        )
    if isinstance(module, TextTransformer):
        return any(getattr(module, field) != value for field, value in stated.items())
    return False


def alternatives(tensors: Tensors, module: Any) -> tuple[Any, ...]:
    """The modules that a file's tensors may be of, `module` first, if they do not tell which: of timm's networks."""
    last = {name.rpartition("conv_stem.weight")[0][-1:] for name in tensors if name.endswith("conv_stem.weight")}
    if isinstance(module, EfficientNet) and last and "_" not in last:  # as it is in EfficientNet-PyTorch's
        return module.clone(conventions="torch"), module.clone(conventions="tensorflow")
    pooled = any(name.endswith("attn_pool.latent") for name in tensors)
    if isinstance(module, ViT) and module.feed_forward == "gelu_tanh" and pooled:
        return module, module.clone(feed_forward="gelu")
    if isinstance(module, TextTransformer) and module.causal:  # OpenAI's CLIP, and those of others
        return module, module.clone(feed_forward="gelu")
    return (module,)


def _of_ours(said: dict[str, Any], module: Any) -> dict[str, Any]:
    while isinstance(inside := said.get("module"), dict):  # of Pretrained and Frozen
        said = inside
    kind = str(said.get("class")).removeprefix("own ")
    if kind != type(module).__name__:
        raise UserError(f"they are of {kind}, not of {type(module).__name__}")
    return {name: said[name] for name in _DECIDING if name in said and hasattr(module, name)}


def _of_timm(name: str, module: Any) -> dict[str, Any]:
    pattern = next((pattern for kind, pattern in _TIMM.items() if isinstance(module, kind)), None)
    if pattern is None:
        return {}
    if (match := re.fullmatch(pattern, name)) is None:
        known = [kind.__name__ for kind, pattern in _TIMM.items() if re.fullmatch(pattern, name)]
        what = f"not that of {type(module).__name__}" if known else "which ssljax does not have"
        raise UserError(f"config.json beside them says that their architecture is {name}, {what}")
    if isinstance(module, EfficientNet):
        return {"conventions": "tensorflow" if match["tensorflow"] else "torch"}
    if not isinstance(module, ViT):
        return {}
    if bool(match["rope"]) != (module.positions == "rope"):
        raise UserError(
            f"config.json beside them says that they are of {name}, which has no positions={module.positions}"
        )
    if "_siglip" in name and module.feed_forward != "swiglu":
        return {"feed_forward": "gelu_tanh" if re.fullmatch(_TANH, name) else "gelu"}
    return {}


def _of_hugging_face(config: dict[str, Any], module: Any) -> dict[str, Any]:
    if not isinstance(module, ViT):
        return {}
    said = {"epsilon": config.get("layer_norm_eps"), "heads": config.get("num_attention_heads")}
    if (act := config.get("hidden_act")) is not None and module.feed_forward != "swiglu":
        if act not in _ACTIVATIONS:
            raise UserError(f"config.json beside them says hidden_act={act}, which ViT does not have")
        said["feed_forward"] = _ACTIVATIONS[act]
    return {name: value for name, value in said.items() if value is not None}


def _of_hugging_face_text(config: dict[str, Any], module: TextTransformer) -> dict[str, Any]:
    kind = config.get("model_type")
    if (positions := config.get("position_embedding_type", "absolute")) != "absolute":
        raise UserError(f"config.json beside them says position_embedding_type={positions}, which ssljax does not have")
    said = {"epsilon": config.get("layer_norm_eps")}
    said["heads"] = config.get("num_attention_heads", config.get("n_heads"))
    for name in ("hidden_act", "activation"):  # DistilBERT's has the second
        if (act := config.get(name)) is not None:
            if act not in _TEXT_ACTIVATIONS:
                raise UserError(f"config.json beside them says {name}={act}, which TextTransformer does not have")
            said["feed_forward"] = _TEXT_ACTIVATIONS[act]
    if kind in ("roberta", "xlm-roberta", "camembert"):
        said["position_offset"] = 1 + config.get("pad_token_id", 1)
    elif kind in ("bert", "distilbert"):
        said["position_offset"] = 0
    return {name: value for name, value in said.items() if value is not None}


def stated_pool(path: str) -> str | None:
    """Which tokens are the result, as sentence-transformers states it beside a weights file; None if it does not."""
    said = beside(str(Path(path).parent / "1_Pooling" / "weights"), "config.json")
    return next((pool for pool, name in _POOLS.items() if said.get(f"pooling_mode_{name}")), None)
