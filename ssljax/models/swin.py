"""Swin transformers (Liu et al. 2021): attention within windows that are shifted in every second block."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssljax.models import tpu
from ssljax.models.blocks import Remat, drop_path, drop_path_factors, in_a_loop, rematerialized
from ssljax.models.layers import (
    Attention,
    Dense,
    FeedForward,
    LayerNorm,
    check_sizes,
    truncated_normal,
)
from ssljax.sharding import device_count, target_platform
from ssljax.types import Array, UserError

# width of the first stage, and blocks of each stage
_VARIANTS = {"T": (96, (2, 2, 6, 2)), "S": (96, (2, 2, 18, 2)), "B": (128, (2, 2, 18, 2))}
_HEAD = 32  # channels of a head
_PATCH = 4
_EPS = 1e-5


class Swin(nn.Module):
    """A Swin transformer without its classifier: images in, the mean of the last tokens out.

    Images of any size: where a map does not divide into patches, windows or pairs, zeros are added below and to the
    right. Tokens that stand for nothing are attended to by none, and cut off again. A map smaller than a window is one
    window, with the position biases of the offsets that it has.
    """

    variant: Literal["T", "S", "B"] = "T"
    """tiny, small or base"""
    window: int = 7
    """side of a window, tokens"""
    width: int | None = None
    """channels of the first stage, instead of the variant's; a multiple of 32; each further stage doubles them"""
    depths: tuple[int, ...] | None = None
    """blocks of each stage, instead of the variant's"""
    drop_path: float = 0.0
    """share of images that leave out a branch of the last block, less in earlier ones; in a student only"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """type of the activations and matrix products; parameters, norms' statistics and the result stay float32"""
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
        """x: f32[B, H, W, 3], normalised; returns f32[B, features]. Raises UserError if a size cannot be."""
        width, depths = self.sizes()
        x = _cells(x.astype(self.dtype), _PATCH)
        x = LayerNorm(_EPS, name="patches_norm")(Dense(width, name="patches")(x))
        factors = drop_path_factors(self, self.drop_path, sum(depths), x.shape[0], train)
        for stage, depth in enumerate(depths, start=1):
            if stage > 1:
                x = LayerNorm(_EPS, name=f"stage{stage}_norm")(_cells(x, 2))
                x = Dense(x.shape[-1] // 2, bias=False, name=f"stage{stage}_merge")(x)
            x, factors = self._blocks(stage, depth, x, train, factors[:depth]), factors[depth:]
        return LayerNorm(_EPS, name="norm")(x.astype(jnp.float32)).mean(axis=(1, 2))

    def _blocks(self, stage: int, depth: int, x: Array, train: bool, factors: Array | list[None]) -> Array:
        block = functools.partial(rematerialized(Block, self.remat), self.window)
        shifts = 0, self.window // 2
        names = [f"stage{stage}_block{i + 1}" for i in range(depth)]
        if self.scan and depth > 2 and depth % 2 == 0 and not self.is_initializing():
            params = [self.get_variable("params", name) for name in names]
            return in_a_loop([block(shift, parent=None) for shift in shifts], params, x, train, factors)
        for name, shift, own in zip(names, itertools.cycle(shifts), factors, strict=False):
            x = block(shift, name=name)(x, train, own)
        return x

    def sizes(self) -> tuple[int, tuple[int, ...]]:
        """Width of the first stage and blocks of each; raises UserError if they cannot be."""
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not a Swin: choose one of {', '.join(_VARIANTS)}")
        width, depths = _VARIANTS[self.variant]
        width = width if self.width is None else self.width
        depths = depths if self.depths is None else self.depths
        if width < 1 or width % _HEAD:
            raise UserError(f"width={width} must be a multiple of {_HEAD}, the width of a head")
        if min(depths, default=0) < 1:
            raise UserError(f"depths={depths}: there must be a stage, and a block in each")
        check_sizes(window=self.window)
        return width, depths


class Block(nn.Module):
    """Attention within windows and a feed-forward layer, each after a norm and beside the identity."""

    window: int
    shift: int  # rows and columns by which the windows lie further down and to the right

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None) -> Array:
        """x: [B, H, W, C]; returns the same shape. `factors` f32[2, B]: of the two branches, see `drop_path`."""
        first, second = (None, None) if factors is None else factors
        y = self._attention(LayerNorm(_EPS, name="norm1")(x))
        x = x + drop_path(y, first)
        y = FeedForward(4 * x.shape[-1], name="feed_forward")(LayerNorm(_EPS, name="norm2")(x))
        return x + drop_path(y, second)

    def _attention(self, x: Array) -> Array:
        _, height, width, channels = x.shape
        sides = min(self.window, height), min(self.window, width)
        shift = self.shift * (self.window < height), self.shift * (self.window < width)
        offsets = (2 * self.window - 1) ** 2
        table = self.param("position_bias", truncated_normal, (offsets, channels // _HEAD), jnp.float32)
        bias = table[_offsets(sides, self.window)].transpose(2, 0, 1)[None]
        allowed = _allowed((height, width), sides, shift)[:, None]
        mask = None if allowed.all() else allowed
        attend = functools.partial(Attention(channels // _HEAD, name="attention"), bias=bias, mask=mask)
        return _attended(attend, _pad(x, sides), sides, shift)[:, :height, :width]


def _attended(attend: Callable[..., Array], x: Array, sides: tuple[int, int], shift: tuple[int, int]) -> Array:
    """x [B, H, W, C] after attention within windows of these sides, which tile it and are shifted."""
    batch, height, width, channels = x.shape
    for rows in (height, sides[0]):
        tokens = rows * width
        # As many images together as fill registers, of 8 rows in memory.
        own = batch // device_count() if batch % device_count() == 0 else 1
        images = math.gcd(own, 8 // math.gcd(8, tokens)) if rows == height else 1
        part = jax.ShapeDtypeStruct((batch, images * tokens, channels), x.dtype)
        windows = images * rows // sides[0] * width // sides[1]
        if target_platform() == "tpu" and tpu.suits_attention(part, channels // _HEAD, windows):
            # The kernel finds the windows itself, in whole maps, or in one row of windows after the other.
            outside = 0 if rows == height else shift[0]
            places = np.arange(images * tokens).reshape(images, rows, width, 1)
            places = _windows(np.roll(places, (outside - shift[0], -shift[1]), axis=(1, 2)), sides)[:, :, 0]
            y = attend(jnp.roll(x, -outside, axis=1).reshape(-1, images * tokens, channels), places=places)
            return jnp.roll(y.reshape(x.shape), outside, axis=1)
    y = attend(_windows(jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2)), sides))
    return jnp.roll(_from_windows(y, x.shape, sides), shift, axis=(1, 2))


def _pad(x: Array, sides: tuple[int, int]) -> Array:
    """x [B, H, W, C] with zeros below and to the right, so that H and W are multiples of `sides`."""
    rows, columns = (-n % side for n, side in zip(x.shape[1:3], sides, strict=True))
    return jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)))


def _windows(x: Any, sides: tuple[int, int]) -> Any:
    """[B, H, W, C] to [B * windows, tokens of a window, C], row by row."""
    batch, height, width, channels = x.shape
    rows, columns = sides
    x = x.reshape(batch, height // rows, rows, width // columns, columns, channels).swapaxes(2, 3)
    return x.reshape(-1, rows * columns, channels)


def _from_windows(x: Array, shape: tuple[int, ...], sides: tuple[int, int]) -> Array:
    """The inverse of `_windows`: x to [B, H, W, C] = `shape`."""
    batch, height, width, channels = shape
    rows, columns = sides
    x = x.reshape(batch, height // rows, width // columns, rows, columns, channels).swapaxes(2, 3)
    return x.reshape(shape)


def _cells(x: Array, side: int) -> Array:
    """[B, H, W, C] to [B, ceil(H / side), ceil(W / side), side * side * C], padded with zeros."""
    x = _pad(x, (side, side))
    batch, height, width, channels = x.shape
    return _windows(x, (side, side)).reshape(batch, height // side, width // side, side * side * channels)


def _offsets(sides: tuple[int, int], window: int) -> np.ndarray:
    """i32[N, N]: the row of the table of position biases for each pair of a window's N tokens."""
    row, column = np.indices(sides).reshape(2, -1)
    down, right = row[:, None] - row[None], column[:, None] - column[None]
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def _allowed(size: tuple[int, int], sides: tuple[int, int], shift: tuple[int, int]) -> np.ndarray:
    """bool[windows, N, N]: which tokens of a window see each other, in a map of this size, padded and then rolled.

    The last windows hold rows or columns that came round from the other side, and padding: each sort sees itself only.
    """
    height, width = (-(-n // side) * side for n, side in zip(size, sides, strict=True))
    row, column = np.indices((height, width))
    sort = (row < shift[0]) + 2 * (column < shift[1]) + 4 * ((row >= size[0]) | (column >= size[1]))
    sort = np.roll(sort, (-shift[0], -shift[1]), axis=(0, 1))
    rows, columns = sides
    sort = sort.reshape(height // rows, rows, width // columns, columns).swapaxes(1, 2).reshape(-1, rows * columns)
    return sort[:, :, None] == sort[:, None, :]
