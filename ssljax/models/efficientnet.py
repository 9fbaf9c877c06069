"""EfficientNets B0 to B4 (Tan & Le 2019), in timm's layout."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.blocks import Remat, drop_path, drop_path_factors, rematerialized
from ssljax.models.layers import Conv, DepthwiseConv, Linear
from ssljax.models.norm import BatchNorm
from ssljax.types import Array, UserError

# factors on the channels and on the blocks
_VARIANTS = {"B0": (1.0, 1.0), "B1": (1.0, 1.1), "B2": (1.1, 1.2), "B3": (1.2, 1.4), "B4": (1.4, 1.8)}
# B0's stages (table 1): blocks, size of the kernel, stride, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNet(nn.Module):
    """An EfficientNet without its classifier: images in, averaged features out."""

    variant: Literal["B0", "B1", "B2", "B3", "B4"] = "B0"
    """larger ones are wider and deeper; the paper trains them at 224, 240, 260, 300 and 380 px"""
    width: float | None = None
    """factor on B0's channels, instead of the variant's"""
    depth: float | None = None
    """factor on B0's blocks, instead of the variant's; each stage has at least one"""
    norm_groups: int = 1
    """parts of the batch that are normalised apart (split-BN); must divide the batch"""
    drop_path: float = 0.0
    """share of images that leave out the last block, less in earlier ones; in a student only (the paper: 0.2)"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and convolutions; parameters, statistics and the result stay float32"""
    remat: Remat = "none"
    """what the backward pass computes again, to save memory: none; dots: all but the products with weights; block:
    all but each block's input, for about a third more time"""

    @property
    def features(self) -> int:
        """Length of the result."""
        return self._channels(1280)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features]. With `train` it updates `batch_stats`.

        Raises UserError if a size cannot be, or `norm_groups` does not divide B.
        """
        _, depth = self._factors()
        x = Conv(self._channels(32), 3, 2, name="stem_conv")(x.astype(self.dtype))
        x = nn.swish(BatchNorm(self.norm_groups, name="stem_norm")(x, train))
        block = rematerialized(MBConv, self.remat)
        counts = [math.ceil(stage[0] * depth) for stage in _STAGES]
        factors = iter(drop_path_factors(self, self.drop_path, sum(counts), len(x), train))
        for stage, (count, (_, size, stride, expansion, width)) in enumerate(
            zip(counts, _STAGES, strict=True), start=1
        ):
            for i in range(count):
                x = block(
                    self._channels(width),
                    size,
                    stride if i == 0 else 1,
                    expansion,
                    self.norm_groups,
                    name=f"stage{stage}_block{i + 1}",
                )(x, train, next(factors))
        x = Conv(self.features, 1, name="last_conv")(x)
        x = nn.swish(BatchNorm(self.norm_groups, name="last_norm")(x, train))
        return x.astype(jnp.float32).mean(axis=(1, 2))

    def _factors(self) -> tuple[float, float]:
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not an EfficientNet: choose one of {', '.join(_VARIANTS)}")
        width, depth = _VARIANTS[self.variant]
        width, depth = width if self.width is None else self.width, depth if self.depth is None else self.depth
        for field, value in (("width", width), ("depth", depth)):
            if value <= 0:
                raise UserError(f"{field}={value} must be above 0, such as 1.0")
        return width, depth

    def _channels(self, channels: int) -> int:
        """B0's channels times the width, to the nearest multiple of 8, but not more than 10 % below."""
        wanted = channels * self._factors()[0]
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded


class MBConv(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, and projection, beside the identity (section 4)."""

    width: int
    size: int
    stride: int
    expansion: int
    norm_groups: int

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), width].

        `factors` f32[2, B] are those of branches, of which this block has one: see `drop_path`.
        """
        y, channels = x, x.shape[-1]
        if self.expansion > 1:
            y = Conv(self.expansion * channels, 1, name="expand_conv")(y)
            y = nn.swish(BatchNorm(self.norm_groups, name="expand_norm")(y, train))
        y = DepthwiseConv(self.size, self.stride, name="depthwise_conv")(y)
        y = nn.swish(BatchNorm(self.norm_groups, name="depthwise_norm")(y, train))
        y = SqueezeExcite(max(1, channels // 4), name="squeeze_excite")(y)
        y = Conv(self.width, 1, name="project_conv")(y)
        y = BatchNorm(self.norm_groups, name="project_norm")(y, train)
        if x.shape != y.shape:
            return y
        return x + drop_path(y, None if factors is None else factors[0])


class SqueezeExcite(nn.Module):
    """Weighs each channel by what all of the map says (Hu et al. 2018)."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C]; returns the same shape."""
        mean = x.astype(jnp.float32).mean(axis=(1, 2))
        weight = nn.swish(Linear(self.hidden, name="squeeze")(mean))
        weight = nn.sigmoid(Linear(x.shape[-1], name="excite")(weight))
        return x * weight.astype(x.dtype)[:, None, None]
