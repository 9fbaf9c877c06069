"""Residual networks in torchvision's layout (He et al. 2016; v1.5: the stride is in the 3x3 convolution)."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.layers import Conv, max_pool
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
    remat: bool = False
    """recompute each block in the backward pass: about a third more time, much less memory"""

    @property
    def features(self) -> int:
        """Length of the result."""
        _, bottleneck = self._stages()
        return self.width * 8 * (4 if bottleneck else 1) * self.pool**2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; gives f32[B, features]. With `train` it updates `batch_stats`.

        Raises UserError if there is no network of this depth or width, `norm_groups` does not divide B, or the last
        map has fewer rows or columns than `pool`.
        """
        blocks, bottleneck = self._stages()
        for field in ("width", "pool"):
            if getattr(self, field) < 1:
                raise UserError(f"{field}={getattr(self, field)} is too small: it must be at least 1")
        x = x.astype(self.dtype)
        if self.stem == "imagenet":
            x = Conv(self.width, 7, 2, name="stem_conv")(x)
        else:
            x = Conv(self.width, 3, 1, name="stem_conv")(x)
        x = nn.relu(BatchNorm(self.norm_groups, name="stem_norm")(x, train))
        if self.stem == "imagenet":
            x = max_pool(x)
        block = Bottleneck if bottleneck else BasicBlock
        if self.remat:
            block = nn.remat(block, static_argnums=(2,))
        for stage, count in enumerate(blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                x = block(self.width * 2**stage, stride, self.norm_groups, name=f"stage{stage + 1}_block{i}")(x, train)
        return _average(x.astype(jnp.float32), self.pool)

    def _stages(self) -> tuple[tuple[int, ...], bool]:
        if self.depth not in _STAGES:
            raise UserError(f"depth={self.depth} is not a ResNet: choose one of {', '.join(map(str, _STAGES))}")
        return _STAGES[self.depth]


def _average(x: Array, cells: int) -> Array:
    """x f32[B, H, W, C] averaged over `cells` x `cells` parts, as equal as can be: f32[B, cells * cells * C]."""
    _, height, width, _ = x.shape
    if min(height, width) < cells:
        raise UserError(f"pool={cells} is more than the last map's {height} x {width}: try a larger view")
    rows, columns = ([slice(n * i // cells, -(-n * (i + 1) // cells)) for i in range(cells)] for n in (height, width))
    return jnp.concatenate([x[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns], axis=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    width: int
    stride: int
    norm_groups: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, H, W, C]; gives [B, ceil(H / stride), ceil(W / stride), width]."""
        y = Conv(self.width, 3, self.stride, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="norm1")(y, train))
        y = Conv(self.width, 3, name="conv2")(y)
        y = BatchNorm(self.norm_groups, scale_init=nn.initializers.zeros, name="norm2")(y, train)
        if x.shape != y.shape:
            x = Conv(self.width, 1, self.stride, name="shortcut_conv")(x)
            x = BatchNorm(self.norm_groups, name="shortcut_norm")(x, train)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last to 4 * width channels, beside the identity."""

    width: int
    stride: int
    norm_groups: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: [B, H, W, C]; gives [B, ceil(H / stride), ceil(W / stride), 4 * width]."""
        y = Conv(self.width, 1, name="conv1")(x)
        y = nn.relu(BatchNorm(self.norm_groups, name="norm1")(y, train))
        y = Conv(self.width, 3, self.stride, name="conv2")(y)
        y = nn.relu(BatchNorm(self.norm_groups, name="norm2")(y, train))
        y = Conv(4 * self.width, 1, name="conv3")(y)
        y = BatchNorm(self.norm_groups, scale_init=nn.initializers.zeros, name="norm3")(y, train)
        if x.shape != y.shape:
            x = Conv(4 * self.width, 1, self.stride, name="shortcut_conv")(x)
            x = BatchNorm(self.norm_groups, name="shortcut_norm")(x, train)
        return nn.relu(x + y)
