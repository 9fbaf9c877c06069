"""ConvNeXts (Liu et al. 2022): convolutional networks with the settings of transformers, in timm's layout."""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.blocks import Remat, drop_path, drop_path_factors, in_a_loop, rematerialized
from ssljax.models.layers import Dense, DepthwiseConv, FeedForward, LayerNorm, LayerScale, check_sizes
from ssljax.types import Array, UserError

# channels of the first stage, and blocks of each stage
_VARIANTS = {"T": (96, (3, 3, 9, 3)), "S": (96, (3, 3, 27, 3)), "B": (128, (3, 3, 27, 3))}
_EPS = 1e-6


class ConvNeXt(nn.Module):
    """A ConvNeXt without its classifier: images in, the norm of the averaged last map out.

    It sees patches of 4 px, and each further stage pairs of rows and columns: what is left over at the lower and right
    edge is cut off, as in PyTorch.
    """

    variant: Literal["T", "S", "B"] = "T"
    """tiny, small or base: 27.8, 49.5 or 87.6 million parameters (28.6, 50.2 and 88.6 with ImageNet's classifier)"""
    width: int | None = None
    """channels of the first stage, instead of the variant's; each further stage doubles them"""
    depths: tuple[int, ...] | None = None
    """blocks of each stage, instead of the variant's"""
    layer_scale: float | None = 1e-6
    """initial value of a learnt factor for each channel of each block; None: no factor"""
    drop_path: float = 0.0
    """share of images that leave out the last block, less in earlier ones; in a student only (the paper: .1, .4, .5)"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and products; parameters, norms' statistics and the result stay float32"""
    remat: Remat = "none"
    """what the backward pass computes again, to save memory: none; dots: all but the products with weights; block:
    all but each block's input, for about a third more time"""
    scan: bool = False
    """run the blocks in a loop, which compiles in a fraction of the time; parameters and results are the same"""

    @property
    def features(self) -> int:
        """Length of the result."""
        width, depths = self.sizes()
        return width * 2 ** (len(depths) - 1)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features].

        Raises UserError if a size cannot be, or the images are too small for the stages.
        """
        width, depths = self.sizes()
        if min(x.shape[1:3]) < 4 * 2 ** (len(depths) - 1):
            raise UserError(
                f"images of {x.shape[1]} x {x.shape[2]} px are too small for a ConvNeXt of {len(depths)} stages: "
                f"both sides must be at least {4 * 2 ** (len(depths) - 1)}"
            )
        x = LayerNorm(_EPS, name="stem_norm")(Dense(width, name="stem")(_patches(x.astype(self.dtype), 4)))
        factors = drop_path_factors(self, self.drop_path, sum(depths), x.shape[0], train)
        for stage, depth in enumerate(depths, start=1):
            if stage > 1:
                x = _patches(LayerNorm(_EPS, name=f"stage{stage}_norm")(x), 2)
                x = Dense(width * 2 ** (stage - 1), name=f"stage{stage}_downsample")(x)
            x, factors = self._blocks(stage, depth, x, train, factors[:depth]), factors[depth:]
        return LayerNorm(_EPS, name="norm")(x.astype(jnp.float32).mean(axis=(1, 2)))

    def _blocks(self, stage: int, depth: int, x: Array, train: bool, factors: Array | list[None]) -> Array:
        block = functools.partial(rematerialized(Block, self.remat), self.layer_scale)
        names = [f"stage{stage}_block{i + 1}" for i in range(depth)]
        if self.scan and depth > 1 and not self.is_initializing():
            params = [self.get_variable("params", name) for name in names]
            return in_a_loop([block(parent=None)], params, x, train, factors)
        for name, own in zip(names, factors, strict=True):
            x = block(name=name)(x, train, own)
        return x

    def sizes(self) -> tuple[int, tuple[int, ...]]:
        """Channels of the first stage, and blocks of each stage."""
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not a ConvNeXt: choose one of {', '.join(_VARIANTS)}")
        width, depths = _VARIANTS[self.variant]
        check_sizes(width=self.width)
        width = width if self.width is None else self.width
        depths = depths if self.depths is None else self.depths
        if min(depths, default=0) < 1:
            raise UserError(f"depths={depths}: there must be a stage, and a block in each")
        return width, depths


class Block(nn.Module):
    """A depthwise 7x7 convolution, a norm and a feed-forward layer, beside the identity (figure 4)."""

    layer_scale: float | None

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None) -> Array:
        """x: [B, H, W, C]; returns the same shape.

        `factors` f32[2, B] are those of branches, of which this block has one: see `drop_path`.
        """
        y = DepthwiseConv(7, 1, bias=True, name="depthwise_conv")(x)
        y = FeedForward(4 * x.shape[-1], name="feed_forward")(LayerNorm(_EPS, name="norm")(y))
        y = LayerScale(self.layer_scale, name="layer_scale")(y)
        return x + drop_path(y, None if factors is None else factors[0])


def _patches(x: Array, side: int) -> Array:
    """[B, H, W, C] to [B, floor(H / side), floor(W / side), side * side * C]."""
    batch, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x[:, : rows * side, : columns * side].reshape(batch, rows, side, columns, side, channels).swapaxes(2, 3)
    return x.reshape(batch, rows, columns, side * side * channels)
