"""What training steps in PyTorch share: ResNet-18, images in channels-last order, the optimizer, the device."""

from typing import Literal

import numpy as np
import torch
from memory import memory_mib
from steps import LR, WEIGHT_DECAY
from torch import Tensor, nn
from torch.nn import functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FEATURES = 512


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet18(stem: Literal["cifar", "imagenet"]) -> nn.Sequential:
    """Images in, f32[B, 512] out."""
    small = stem == "cifar"
    convolution = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, FEATURES, 2)]
    blocks = [b for i, o, s in widths for b in (Block(i, o, s), Block(o, o, 1))]
    return nn.Sequential(
        convolution, nn.BatchNorm2d(64), nn.ReLU(), pool, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def on_device(network: nn.Module) -> nn.Module:
    """The network, its kernels channels last."""
    return network.to(DEVICE, memory_format=torch.channels_last)


def images(views: tuple[np.ndarray, ...]) -> list[Tensor]:
    """Views f32[B, S, S, 3] on the device, as PyTorch has them, channels last."""
    return [torch.from_numpy(view).to(DEVICE).permute(0, 3, 1, 2) for view in views]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Of what is trained."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, LR, momentum=0.9, weight_decay=WEIGHT_DECAY)


def peak_mib() -> float:
    """Peak memory of the accelerator, or of the process."""
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else memory_mib("VmHWM")
