"""EfficientNets B0 to B4 (Tan & Le 2019) and EfficientNet-Lite 0 to 4 (Liu 2020), in timm's layout."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.blocks import Remat, drop_path, drop_path_factors, rematerialized
from ssljax.models.layers import Conv, DepthwiseConv, Linear, Padding, average, check_sizes, unit
from ssljax.models.norm import BatchNorm
from ssljax.models.weights.preprocessing import Preprocessing
from ssljax.types import Array, UserError

# factors on the channels and on the blocks, and the size that it was trained at, px
_VARIANTS = {
    "B0": (1.0, 1.0, 224),
    "B1": (1.0, 1.1, 240),
    "B2": (1.1, 1.2, 260),
    "B3": (1.2, 1.4, 300),
    "B4": (1.4, 1.8, 380),
    "lite0": (1.0, 1.0, 224),
    "lite1": (1.0, 1.1, 240),
    "lite2": (1.1, 1.2, 260),
    "lite3": (1.2, 1.4, 280),
    "lite4": (1.4, 1.8, 300),
}
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
_EPS = {"torch": 1e-5, "tensorflow": 1e-3}  # added to the variance by BatchNorm


class EfficientNet(nn.Module):
    """An EfficientNet without its classifier: images in, averaged features out.

    The Lite variants, for small devices, have no squeeze and excitation and ReLU6 for swish, and the variant scales
    neither the first and last convolution nor the number of blocks in the first and last stage.
    """

    variant: Literal["B0", "B1", "B2", "B3", "B4", "lite0", "lite1", "lite2", "lite3", "lite4"] = "B0"
    """larger ones are wider and deeper; trained at 224, 240, 260, 300 and 380 px (Lite: 224, 240, 260, 280 and 300)"""
    width: float | None = None
    """factor on B0's channels, instead of the variant's"""
    depth: float | None = None
    """factor on B0's blocks, instead of the variant's; each stage has at least one"""
    conventions: Padding | None = None
    """where the weights were trained. torch: zeros on all sides, BatchNorm's epsilon 1e-5; tensorflow: zeros below and
    to the right first, 1e-3 (timm's tf_...); None: tensorflow for the Lite variants, or else torch"""
    pool: int = 1
    """side of the grid of cells over which the last map is averaged: 1 is global, as published; 2 keeps where things
    are, for photos that are all framed alike, and makes the result 4 times as long"""
    levels: tuple[tuple[int, int], ...] = ()
    """earlier stages that are part of the result, each (stage, side of its grid of cells), such as ((3, 4), (5, 3)):
    they tell colours, textures and where they are, which ImageNet's classes do without. Each part has unit length"""
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
        return sum(self.parts)

    @property
    def parts(self) -> tuple[int, ...]:
        """Lengths of the parts that the result is joined from: of `levels`, by stage, and of the last map."""
        levels = sorted(self.levels, key=lambda level: level[0])
        early = (self.channels(_STAGES[stage - 1][-1]) * side**2 for stage, side in levels)
        return *early, self._last_channels() * self.pool**2

    @property
    def preprocessing(self) -> Preprocessing:
        """How the published weights want their photos."""
        size = self._factors()[2]
        share, middle, half = size / (size + 32), 127 / 255, 128 / 255
        if self.lite:
            return Preprocessing(size, (middle, middle, middle), (half, half, half), "square", share)
        return Preprocessing(size, fit="square", share=share)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features]. With `train` it updates `batch_stats`.

        Raises UserError if a size cannot be, `norm_groups` does not divide B, or the last map has fewer rows or columns
        than `pool`, or that of a stage in `levels` than the side of its grid.
        """
        check_sizes(pool=self.pool)
        if any(not (1 <= stage <= len(_STAGES) and side >= 1) for stage, side in self.levels):
            raise UserError(
                f"levels={self.levels} must be pairs of a stage, 1 to {len(_STAGES)}, and a side, 1 or more"
            )
        stages, lite, padding = self.stages(), self.lite, self.padding
        activation = nn.relu6 if lite else nn.swish
        x = Conv(32 if lite else self.channels(32), 3, 2, padding, name="stem_conv")(x.astype(self.dtype))
        x = activation(BatchNorm(self.norm_groups, eps=_EPS[padding], name="stem_norm")(x, train))
        block = rematerialized(MBConv, self.remat)
        factors = iter(drop_path_factors(self, self.drop_path, sum(stages), x.shape[0], train))
        parts = []
        for stage, (count, (_, size, stride, expansion, width)) in enumerate(
            zip(stages, _STAGES, strict=True), start=1
        ):
            for i in range(count):
                x = block(
                    self.channels(width),
                    size,
                    stride if i == 0 else 1,
                    expansion,
                    self.norm_groups,
                    lite,
                    padding,
                    name=f"stage{stage}_block{i + 1}",
                )(x, train, next(factors))
            parts += [average(x, side, f"levels={self.levels}") for at, side in self.levels if at == stage]
        x = Conv(self._last_channels(), 1, name="last_conv")(x)
        x = activation(BatchNorm(self.norm_groups, eps=_EPS[padding], name="last_norm")(x, train))
        parts.append(average(x, self.pool))
        return jnp.concatenate(list(map(unit, parts)), axis=1) if self.levels else parts[0]

    def stages(self) -> tuple[int, ...]:
        """The blocks of each stage."""
        _, depth, _ = self._factors()
        counts = [math.ceil(stage[0] * depth) for stage in _STAGES]
        if self.lite:
            counts[0], counts[-1] = _STAGES[0][0], _STAGES[-1][0]
        return tuple(counts)

    @property
    def lite(self) -> bool:
        """Whether it is one of the Lite variants."""
        return self.variant.startswith("lite")

    @property
    def padding(self) -> Padding:
        """Whose conventions it follows."""
        conventions = self.conventions or ("tensorflow" if self.lite else "torch")
        if conventions not in _EPS:
            raise UserError(f"conventions={conventions} are unknown: choose torch or tensorflow")
        return conventions

    def _factors(self) -> tuple[float, float, int]:
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not an EfficientNet: choose one of {', '.join(_VARIANTS)}")
        width, depth, size = _VARIANTS[self.variant]
        width, depth = width if self.width is None else self.width, depth if self.depth is None else self.depth
        for field, value in (("width", width), ("depth", depth)):
            if value <= 0:
                raise UserError(f"{field}={value} must be above 0, such as 1.0")
        return width, depth, size

    def _last_channels(self) -> int:
        return 1280 if self.lite else self.channels(1280)

    def channels(self, channels: int) -> int:
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
    lite: bool = False
    padding: Padding = "torch"

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None) -> Array:
        """x: [B, H, W, C]; returns [B, ceil(H / stride), ceil(W / stride), width].

        `factors` f32[2, B] are those of branches, of which this block has one: see `drop_path`.
        """
        activation = nn.relu6 if self.lite else nn.swish
        norm = functools.partial(BatchNorm, self.norm_groups, eps=_EPS[self.padding])
        y, channels = x, x.shape[-1]
        if self.expansion > 1:
            y = Conv(self.expansion * channels, 1, name="expand_conv")(y)
            y = activation(norm(name="expand_norm")(y, train))
        y = DepthwiseConv(self.size, self.stride, self.padding, name="depthwise_conv")(y)
        y = activation(norm(name="depthwise_norm")(y, train))
        if not self.lite:
            y = SqueezeExcite(max(1, channels // 4), name="squeeze_excite")(y)
        y = Conv(self.width, 1, name="project_conv")(y)
        y = norm(name="project_norm")(y, train)
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
