"""ResNets: timm's and torchvision's names, which are the same."""

import re
from collections import Counter

from ssljax.models.resnet import DEPTHS, ResNet
from ssljax.models.weights.names import Layout, Tensors, batch_norm, conv


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
    return Layout(tuple(entries), (r"fc\..*", r".*\.num_batches_tracked"))


def guess(tensors: Tensors) -> ResNet | None:
    """The ResNet of which these look like the weights, if any."""
    stem = tensors.get("conv1.weight")
    if stem is None or stem.ndim != 4 or "layer1.0.conv1.weight" not in tensors:
        return None
    found = (re.fullmatch(r"layer([1-4])\.(\d+)\.conv1\.weight", name) for name in tensors)
    counts = Counter(match[1] for match in found if match)
    sizes = tuple(counts[stage] for stage in "1234"), "layer1.0.conv3.weight" in tensors
    depth = next((depth for depth in DEPTHS if ResNet(depth).stages() == sizes), None)
    return depth and ResNet(depth, "imagenet" if stem.shape[2] == 7 else "cifar", width=stem.shape[0])
