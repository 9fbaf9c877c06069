"""ResNets: timm's and torchvision's names, which are the same."""

import re
from collections import Counter

from ssljax.models.resnet import DEPTHS, ResNet
from ssljax.models.weights.names import Layout, Tensors, batch_norm, conv, renamed


def layout(module: ResNet) -> Layout:
    """The tensors of a ResNet of these settings."""
    blocks, bottleneck = module.stages()
    entries = [conv("conv1", "stem_conv"), *batch_norm("bn1", "stem_norm")]
    width = 1
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            theirs, ours = f"layer{stage}.{i}", f"stage{stage}_block{i}"
            for k in range(1, 4 if bottleneck else 3):
                entries.append(conv(f"{theirs}.conv{k}", f"{ours}/conv{k}"))
                entries += batch_norm(f"{theirs}.bn{k}", f"{ours}/norm{k}")
            out = 2 ** (stage - 1) * (4 if bottleneck else 1)
            if width != out:
                width = out
                entries.append(conv(f"{theirs}.downsample.0", f"{ours}/shortcut_conv"))
                entries += batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm")
    return Layout(tuple(entries), (r"(fc|linear)\..*", r".*\.num_batches_tracked"), (_torchvision_names,))


def _torchvision_names(tensors: Tensors) -> Tensors | None:
    """Those of lightly: shortcut for downsample, and often numbers, as a Sequential of a ResNet's children has them.

    The first stage comes after a convolution, a norm and a ReLU at least. lightly's own ResNet has no module for that
    ReLU, so that a Sequential of its children is another network: those numbers stay, and are refused.
    """
    stages = sorted({int(match[1]) for name in tensors if (match := re.fullmatch(r"(\d+)\.0\.conv1\.weight", name))})
    numbers = {}
    if len(stages) == 4 and stages[0] > 2:
        numbers = {"0": "conv1", "1": "bn1"} | {str(stage): f"layer{i}" for i, stage in enumerate(stages, start=1)}
    elif not any(".shortcut." in name for name in tensors):
        return None
    names = {}
    for name in tensors:
        first, dot, rest = name.replace(".shortcut.", ".downsample.").partition(".")
        names[name] = numbers.get(first, first) + dot + rest
    return renamed(tensors, names)


def guess(tensors: Tensors) -> ResNet | None:
    """The ResNet of which these look like the weights, if any."""
    tensors = _torchvision_names(tensors) or tensors
    stem = tensors.get("conv1.weight")
    if stem is None or stem.ndim != 4 or "layer1.0.conv1.weight" not in tensors:
        return None
    found = (re.fullmatch(r"layer([1-4])\.(\d+)\.conv1\.weight", name) for name in tensors)
    counts = Counter(match[1] for match in found if match)
    sizes = tuple(counts[stage] for stage in "1234"), "layer1.0.conv3.weight" in tensors
    depth = next((depth for depth in DEPTHS if ResNet(depth).stages() == sizes), None)
    return None if depth is None else ResNet(depth, "imagenet" if stem.shape[2] == 7 else "cifar", width=stem.shape[0])
