"""EfficientNets: timm's names, and those of EfficientNet-PyTorch, from which the packages of Lite weights are made."""

from ssljax.models.efficientnet import VARIANTS, EfficientNet
from ssljax.models.weights.names import Entry, Layout, Tensors, batch_norm, conv, renamed, same, to_ours

# the parts of a block: ours, and EfficientNet-PyTorch's convolution and norm
_LUKEMELAS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def layout(module: EfficientNet) -> Layout:
    """The tensors of an EfficientNet of these settings."""
    entries = [conv("conv_stem", "stem_conv"), *batch_norm("bn1", "stem_norm")]
    lukemelas = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    blocks = [(stage, i) for stage, count in enumerate(module.stages()) for i in range(count)]
    for number, (stage, i) in enumerate(blocks):
        theirs, ours = f"blocks.{stage}.{i}", f"stage{stage + 1}_block{i + 1}"
        convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        if stage == 0:  # without expansion
            convs = {"depthwise": "conv_dw", "project": "conv_pw"}
        for k, (part, name) in enumerate(convs.items(), start=1):
            entries += [conv(f"{theirs}.{name}", f"{ours}/{part}_conv")]
            entries += batch_norm(f"{theirs}.bn{k}", f"{ours}/{part}_norm")
            for other, timm in zip(_LUKEMELAS[part], (name, f"bn{k}"), strict=True):
                lukemelas[f"_blocks.{number}.{other}"] = f"{theirs}.{timm}"
        if not module.lite:
            for part, name, other in (
                ("squeeze", "conv_reduce", "_se_reduce"),
                ("excite", "conv_expand", "_se_expand"),
            ):
                entries += _pointwise(f"{theirs}.se.{name}", f"{ours}/squeeze_excite/{part}")
                lukemelas[f"_blocks.{number}.{other}"] = f"{theirs}.se.{name}"
    entries += [conv("conv_head", "last_conv"), *batch_norm("bn2", "last_norm")]

    def from_lukemelas(tensors: Tensors) -> Tensors | None:
        return renamed(tensors, lukemelas) if "_conv_stem.weight" in tensors else None

    return Layout(tuple(entries), (r"classifier\..*", r".*\.num_batches_tracked"), (from_lukemelas,))


def guess(tensors: Tensors) -> EfficientNet | None:
    """The EfficientNet of which these look like the weights, if any; which `conventions` it has they do not tell."""
    for module in map(EfficientNet, VARIANTS):
        variables, report = to_ours(layout(module), tensors)
        if report.complete and variables["params/last_conv/kernel"].shape[2] == module.channels(320):
            return module
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
