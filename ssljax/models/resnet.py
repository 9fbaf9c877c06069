"""Residual networks in torchvision's layout (He et al. 2016; v1.5: the stride is in the 3x3 convolution)."""

from typing import Literal

import flax.linen as nn

from ssljax.models.blocks import Remat, rematerialized
from ssljax.models.layers import Conv, average, check_sizes, max_pool
from ssljax.models.norm import BatchNorm
from ssljax.types import Array, UserError

# blocks of each stage, and whether they are bottlenecks; 10 is for tests and CPUs
_STAGES = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
DEPTHS = tuple(_STAGES)


class ResNet(nn.Module):
    """A residual network without its classifier: images in, averaged features out.

    The last BatchNorm of each block starts at zero, so that a block starts as the identity (Goyal et al. 2017).
    """

    depth: int = 18
    """layers: 10, 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks)"""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """imagenet: 7x7 convolution with stride 2 and a max-pool; cifar: 3x3 convolution, for images of 32 px or so"""
    width: int = 64
    """channels of the first stage; each further stage doubles them"""
    pool: int = 1
    """side of the grid of cells over which the last map is averaged: 1 is global, as published; 2 keeps where things
    are, for photos that are all framed alike, and makes the result 4 times as long"""
    norm_groups: int = 1
    """parts of the batch that are normalised apart (split-BN); must divide the batch"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and convolutions; parameters, statistics and the result stay float32"""
    remat: Remat = "none"
    """what the backward pass computes again, to save memory: none; dots: all but the products with weights; block:
    all but each block's input, for about a third more time"""

    @property
    def features(self) -> int:
        """Length of the result."""
        _, bottleneck = self.stages()
        return self.width * 8 * (4 if bottleneck else 1) * self.pool**2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features]. With `train` it updates `batch_stats`.

        Raises UserError if there is no network of this depth or width, `norm_groups` does not divide B, or the last
        map has fewer rows or columns than `pool`.
        """
        blocks, bottleneck = self.stages()
        check_sizes(width=self.width, pool=self.pool)
        x = x.astype(self.dtype)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Conv(self.width, size, stride, name="stem_conv")(x)
        x = nn.relu(BatchNorm(self.norm_groups, name="stem_norm")(x, train))
        if self.stem == "imagenet":
            x = max_pool(x)
        block = rematerialized(Block, self.remat)
        for stage, count in enumerate(blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                width, name = self.width * 2**stage, f"stage{stage + 1}_block{i}"
                x = block(width, stride, bottleneck, self.norm_groups, name=name)(x, train)
        return average(x, self.pool)

    def stages(self) -> tuple[tuple[int, ...], bool]:
        """The blocks of each stage, and whether they are bottlenecks."""
        if self.depth not in _STAGES:
            raise UserError(f"depth={self.depth} is not a ResNet: choose one of {', '.join(map(str, DEPTHS))}")
        return _STAGES[self.depth]


class Block(nn.Module):
    """Convolutions beside the identity: two of 3x3, or, as a bottleneck, 1x1, 3x3 and 1x1 to 4 * width channels."""

    width: int
    stride: int
    bottleneck: bool
    norm_groups: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), channels of the last convolution]."""
        width, stride, y = self.width, self.stride, x
        # channels, size and stride of each convolution
        convs = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        if not self.bottleneck:
            convs = [(width, 3, stride), (width, 3, 1)]
        for i, conv in enumerate(convs, start=1):
            last = i == len(convs)
            y = Conv(*conv, name=f"conv{i}")(y)
            scale = nn.initializers.zeros if last else nn.initializers.ones
            y = BatchNorm(self.norm_groups, scale_init=scale, name=f"norm{i}")(y, train)
            y = y if last else nn.relu(y)
        if x.shape != y.shape:
            x = Conv(y.shape[-1], 1, stride, name="shortcut_conv")(x)
            x = BatchNorm(self.norm_groups, name="shortcut_norm")(x, train)
        return nn.relu(x + y)
