"""Weights as safetensors: by our own names, or by timm's for encoders that timm has too."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ssljax.config import Experiment, resolved
from ssljax.data.atomic_files import replace_file, write_json
from ssljax.export.network import Network
from ssljax.export.preprocessing import settings_of
from ssljax.models import ConvNeXt, EfficientNet, Preprocessing, ResNet, ViT, timm_bytes, weights_bytes
from ssljax.types import PyTree, UserError

FILE = "model.safetensors"
_SMALLER_RESNETS = {10: ("resnet18", {"layers": [1, 1, 1, 1]})}
_CROP_MODES = {"crop": "squash", "square": "center", "squeeze": "squash", "pad": "border"}
_NEAREST = "timm has no fit=crop, pads with the mean instead of white, and resizes once: preprocess.py does as ssljax"
_CONVNEXTS = {"T": "tiny", "S": "small", "B": "base"}
_VITS = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}


def write_safetensors(network: Network, folder: Path, experiment: Experiment, licence: dict[str, str]) -> None:
    """Writes model.safetensors, which `Pretrained` reads: our names; module, preprocessing and recipe as metadata.

    Args:
        network: what is written.
        folder: where to.
        experiment: the recipe, with the files that it started from, which a restored network has not.
        licence: of those, as metadata.
    """
    how = settings_of(network)
    recipe = resolved(experiment)
    said = licence | {
        "module": json.dumps(resolved(network.encoder)),
        "recipe": json.dumps({name: value for name, value in recipe.items() if name not in ("data", "index")}),
    }
    if "mean" in how:
        own = Preprocessing(how["view_size"], how["mean"], how["std"], how["fit"], how["share"], how["resampling"])
        said["preprocessing"] = json.dumps(dataclasses.asdict(own))
    content = weights_bytes(network.variables, said)
    replace_file(folder / FILE, lambda file: file.write(content))


def write_timm(network: Network, folder: Path) -> None:
    """Writes model.safetensors and config.json as timm has them.

    Raises UserError if timm has no such encoder, or preprocess.py cannot make its views.
    """
    how = settings_of(network)
    if network.part != "backbone":
        raise UserError("part=projection is not in timm's networks: export the backbone, or to onnx or stablehlo")
    if "mean" not in how:
        raise UserError("to=timm needs views of ssljax, such as TwoCrops: export to onnx or stablehlo instead")
    name, arguments = timm_architecture(network.encoder, how["view_size"])
    size = [3, how["view_size"], how["view_size"]]
    pretrained = {
        **{"input_size": size, "fixed_input_size": "img_size" in arguments, "interpolation": how["resampling"]},
        **{"crop_pct": how["share"], "crop_mode": _CROP_MODES[how["fit"]], "mean": how["mean"], "std": how["std"]},
        **{"num_classes": 0, "notes": [_NEAREST]},
    }
    encoder, variables = network.encoder, network.variables["encoder"]
    if isinstance(encoder, ViT) and "positions" in variables["params"]:
        variables = _on_the_grid_of(encoder, variables, how["view_size"])
    if getattr(encoder, "mask_token", False):
        encoder = encoder.clone(mask_token=False)  # of use in training alone
    content = timm_bytes(encoder, variables)
    replace_file(folder / FILE, lambda file: file.write(content))
    config = {"architecture": name, "num_classes": 0, "num_features": network.encoder.features, "global_pool": None}
    config |= {"model_args": arguments, "pretrained_cfg": pretrained}
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})


def _on_the_grid_of(encoder: ViT, variables: PyTree, view_size: int) -> PyTree:
    """A ViT's variables with the learnt positions of views of this size, as it interpolates them itself."""
    side = view_size // encoder.patch
    positions = encoder.apply(variables, (side, side), encoder.features, method="_positions")
    positions = np.asarray(positions).reshape(side, side, -1)
    return variables | {"params": variables["params"] | {"positions": positions}}


def timm_line(network: Network) -> str:
    """The line of Python that loads what `write_timm` wrote."""
    name, arguments = timm_architecture(network.encoder, network.view_size())
    more = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return f'network = timm.create_model("{name}", num_classes=0, checkpoint_path="{FILE}"{more})'


def timm_architecture(module: Any, view_size: int) -> tuple[str, dict[str, Any]]:
    """timm's name of an encoder, and further arguments of `timm.create_model`; raises UserError if it has none."""
    if getattr(module, "pool", 1) != 1:
        raise _not_in_timm(f"pool={module.pool}")
    match module:
        case ResNet():
            if module.stem != "imagenet" or module.width != 64:
                raise _not_in_timm(f"a ResNet with stem={module.stem} and width={module.width}")
            return _SMALLER_RESNETS.get(module.depth, (f"resnet{module.depth}", {}))
        case EfficientNet():
            if module.levels:
                raise _not_in_timm(f"an EfficientNet with levels={module.levels}")
            if module.width is not None or module.depth is not None:
                raise _not_in_timm(f"an EfficientNet with width={module.width} and depth={module.depth}")
            tensorflow = module.conventions == "tensorflow" or (module.lite and module.conventions is None)
            return f"{'tf_' * tensorflow}efficientnet_{module.variant.lower()}", {}
        case ConvNeXt():
            width, depths = module.sizes()
            if module.layer_scale is None or len(depths) != 4:
                raise _not_in_timm(f"a ConvNeXt with layer_scale={module.layer_scale} and depths={depths}")
            arguments = {"dims": [width * 2**stage for stage in range(len(depths))], "depths": list(depths)}
            own = module.width is not None or module.depths is not None
            arguments = (arguments if own else {}) | {"ls_init_value": module.layer_scale}
            return f"convnext_{_CONVNEXTS[module.variant]}", arguments
        case ViT():
            plain = {"positions": "learnt", "pooling": "cls", "feed_forward": "gelu", "epsilon": 1e-6}
            for field, value in plain.items():
                if getattr(module, field) != value:
                    raise _not_in_timm(f"a ViT with {field}={getattr(module, field)}")
            width, depth, heads, hidden = module.sizes()
            arguments = {"img_size": view_size, "patch_size": module.patch, "embed_dim": width, "depth": depth}
            arguments |= {"num_heads": heads, "mlp_ratio": hidden / width, "qkv_bias": module.qkv_bias}
            arguments |= {"init_values": module.layer_scale, "reg_tokens": module.registers}
            arguments |= {"no_embed_class": bool(module.registers)}
            return f"vit_{_VITS.get(module.variant, 'base')}_patch16_224", arguments
    raise _not_in_timm(type(module).__name__)


def _not_in_timm(what: str) -> UserError:
    return UserError(f"{what} cannot be exported to timm: export to onnx, stablehlo or safetensors instead")
