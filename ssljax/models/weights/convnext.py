"""ConvNeXts: timm's names, those of FAIR's own code, and torchvision's."""

import re
from typing import get_args

from ssljax.models.convnext import ConvNeXt
from ssljax.models.weights.names import Entry, Layout, Tensors, conv, linear, move_modules, norm, patches, same, to_ours


def layout(module: ConvNeXt) -> Layout:
    """The tensors of a ConvNeXt of these settings."""
    _, depths = module.sizes()
    entries = [*patches("stem.0", "stem", 4), *norm("stem.1", "stem_norm")]
    for stage, depth in enumerate(depths):
        if stage > 0:
            entries += norm(f"stages.{stage}.downsample.0", f"stage{stage + 1}_norm")
            entries += patches(f"stages.{stage}.downsample.1", f"stage{stage + 1}_downsample", 2)
        for i in range(depth):
            entries += _block(f"stages.{stage}.blocks.{i}", f"stage{stage + 1}_block{i + 1}", module.layer_scale)
    entries += norm("head.norm", "norm")
    return Layout(tuple(entries), (r"head\.fc\..*",), (_from_fair, _from_torchvision))


def _block(theirs: str, ours: str, layer_scale: float | None) -> list[Entry]:
    entries = [
        conv(f"{theirs}.conv_dw", f"{ours}/depthwise_conv"),
        same(f"{theirs}.conv_dw.bias", f"params/{ours}/depthwise_conv/bias"),
        *norm(f"{theirs}.norm", f"{ours}/norm"),
        *linear(f"{theirs}.mlp.fc1", f"{ours}/feed_forward/linear1"),
        *linear(f"{theirs}.mlp.fc2", f"{ours}/feed_forward/linear2"),
    ]
    if layer_scale is not None:
        entries.append(same(f"{theirs}.gamma", f"params/{ours}/layer_scale/scale"))
    return entries


def guess(tensors: Tensors) -> ConvNeXt | None:
    """The ConvNeXt of which these look like the weights, if any."""
    for variant in get_args(ConvNeXt.__annotations__["variant"]):
        module = ConvNeXt(variant)
        variables, report = to_ours(layout(module), tensors)
        if report.complete and variables["params/norm/scale"].size == module.features:
            return module
    return None


_FAIR = {"dwconv": "conv_dw", "pwconv1": "mlp.fc1", "pwconv2": "mlp.fc2"}


def _from_fair(tensors: Tensors) -> Tensors | None:
    if "downsample_layers.0.0.weight" not in tensors:
        return None
    changed = {}
    for name in tensors:
        module = name.rpartition(".")[0]
        if match := re.fullmatch(r"downsample_layers\.(\d)\.(\d)", module):
            changed[module] = f"stem.{match[2]}" if match[1] == "0" else f"stages.{match[1]}.downsample.{match[2]}"
        elif match := re.fullmatch(r"stages\.(\d)\.(\d+)(?:\.(\w+))?", module):
            inside = f".{_FAIR.get(match[3], match[3])}" if match[3] else ""
            changed[module] = f"stages.{match[1]}.blocks.{match[2]}{inside}"
    return move_modules(tensors, changed | {"norm": "head.norm", "head": "head.fc"})


_TORCHVISION = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}


def _from_torchvision(tensors: Tensors) -> Tensors | None:
    if "features.0.0.weight" not in tensors or "classifier.0.weight" not in tensors:
        return None
    theirs = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if match := re.fullmatch(r"features\.([1357])\.(\d+)(?:\.(block\.\d))?", module):
            block = f"stages.{int(match[1]) // 2}.blocks.{match[2]}"
            module = f"{block}.{_TORCHVISION.get(match[3], match[3])}" if match[3] else block
            leaf = "gamma" if leaf == "layer_scale" else leaf
            tensor = tensor.reshape(-1) if leaf == "gamma" else tensor
        elif match := re.fullmatch(r"features\.([0246])\.([01])", module):
            module = f"stem.{match[2]}" if match[1] == "0" else f"stages.{int(match[1]) // 2}.downsample.{match[2]}"
        module = {"classifier.0": "head.norm", "classifier.2": "head.fc"}.get(module, module)
        theirs[f"{module}.{leaf}"] = tensor
    return theirs
