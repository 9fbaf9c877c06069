"""EfficientNets: timm's names, torchvision's, and those of EfficientNet-PyTorch, as in the packages of Lite weights."""

from collections.abc import Mapping
from typing import get_args

from ssljax.models.efficientnet import EfficientNet
from ssljax.models.weights.names import Dialect, Entry, Layout, Tensors, batch_norm, conv, move_modules, same, to_ours


def layout(module: EfficientNet) -> Layout:
    """The tensors of an EfficientNet of these settings."""
    entries = [conv("conv_stem", "stem_conv"), *batch_norm("bn1", "stem_norm")]
    # EfficientNet-PyTorch's and torchvision's modules, by timm's
    pytorch = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    vision = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.8.0": "conv_head", "features.8.1": "bn2"}
    vision["classifier.1"] = "classifier"
    blocks = [(stage, i) for stage, count in enumerate(module.stages()) for i in range(count)]
    for number, (stage, i) in enumerate(blocks):
        theirs, ours = f"blocks.{stage}.{i}", f"stage{stage + 1}_block{i + 1}"
        prefix, vision_prefix = f"_blocks.{number}", f"features.{stage + 1}.{i}.block"
        convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        if stage == 0:  # without expansion
            convs = {"depthwise": "conv_dw", "project": "conv_pw"}
        for k, (part, name) in enumerate(convs.items()):
            entries += [conv(f"{theirs}.{name}", f"{ours}/{part}_conv")]
            entries += batch_norm(f"{theirs}.bn{k + 1}", f"{ours}/{part}_norm")
            norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
            place = f"{vision_prefix}.{k + (part == 'project')}"  # after the squeeze and excitation
            pytorch |= {f"{prefix}._{part}_conv": f"{theirs}.{name}", f"{prefix}.{norm}": f"{theirs}.bn{k + 1}"}
            vision |= {f"{place}.0": f"{theirs}.{name}", f"{place}.1": f"{theirs}.bn{k + 1}"}
        if not module.lite:
            for k, (part, name) in enumerate({"squeeze": "reduce", "excite": "expand"}.items(), start=1):
                entries += _pointwise(f"{theirs}.se.conv_{name}", f"{ours}/squeeze_excite/{part}")
                pytorch[f"{prefix}._se_{name}"] = f"{theirs}.se.conv_{name}"
                vision[f"{vision_prefix}.{len(convs) - 1}.fc{k}"] = f"{theirs}.se.conv_{name}"
    entries += [conv("conv_head", "last_conv"), *batch_norm("bn2", "last_norm")]
    dialects = _dialect("_conv_stem.weight", pytorch), _dialect("features.0.0.weight", vision)
    return Layout(tuple(entries), (r"classifier\..*", r".*\.num_batches_tracked"), dialects)


def _dialect(sign: str, modules: Mapping[str, str]) -> Dialect:
    return lambda tensors: move_modules(tensors, modules) if sign in tensors else None


def guess(tensors: Tensors) -> EfficientNet | None:
    """The EfficientNet of which these look like the weights, if any. timm's do not tell its `conventions`."""
    for variant in get_args(EfficientNet.__annotations__["variant"]):
        module = EfficientNet(variant)
        variables, report = to_ours(layout(module), tensors)
        if report.complete and variables["params/last_conv/kernel"].shape[2] == module.channels(320):
            # EfficientNet-PyTorch's, which nobody else names so, are Google's weights
            return (
                module.clone(conventions="tensorflow") if "_conv_stem.weight" in tensors and not module.lite else module
            )
    return None


def _pointwise(theirs: str, ours: str) -> tuple[Entry, Entry]:
    """A 1x1 convolution with bias of a map of one pixel: weight [out, in, 1, 1] is our kernel [in, out]."""
    return (
        Entry(
            f"{theirs}.weight",
            (f"params/{ours}/kernel",),
            lambda x: (x[:, :, 0, 0].T,),
            lambda xs: xs[0].T[:, :, None, None],
        ),
        same(f"{theirs}.bias", f"params/{ours}/bias"),
    )
