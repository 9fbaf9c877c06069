"""Vision transformers (Dosovitskiy et al. 2021; Ti and S as in DeiT, Touvron et al. 2021), in timm's layout."""

import functools
from typing import Literal, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ssljax.models.blocks import Remat, drop_path, drop_path_factors, in_a_loop, rematerialized
from ssljax.models.layers import (
    Attention,
    Dense,
    FeedForward,
    LayerNorm,
    LayerScale,
    affine,
    check_sizes,
    truncated_normal,
)
from ssljax.types import Array, PyTree, UserError

# width, depth, heads
_VARIANTS = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}
_EPS = 1e-6


class ViT(nn.Module):
    """A vision transformer without its classifier: images in, the [CLS] token after the last norm out.

    The learnt positions are those of the images it is initialised with. For images of another size they are
    interpolated: bicubic and without antialiasing, as in DINO and its successors.
    """

    variant: Literal["Ti", "S", "B", "L"] = "S"
    """tiny, small, base or large: 192, 384, 768 or 1024 channels"""
    patch: int = 16
    """side of a patch, px; both sides of an image must be multiples of it"""
    width: int | None = None
    """channels, instead of the variant's"""
    depth: int | None = None
    """blocks, instead of the variant's"""
    heads: int | None = None
    """attention heads, instead of the variant's (MoCo v3's S has 12); must divide the width"""
    positions: Literal["learnt", "sincos"] = "learnt"
    """sincos: fixed sines and cosines of row and column (MoCo v3)"""
    frozen_patches: bool = False
    """the projection of the patches stays as initialised (MoCo v3); it is then kept beside the batch statistics"""
    registers: int = 0
    """learnt tokens beside [CLS] and the patches, which take part and are thrown away (Darcet et al. 2024: 4)"""
    mask_token: bool = False
    """has the learnt token that masked patches are replaced by (iBOT)"""
    layer_scale: float | None = None
    """initial value of a learnt factor for each channel of each branch (CaiT; DINOv2: 1e-5); None: no factor"""
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
        return self.sizes()[0]

    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features], the [CLS] token.

        Raises UserError if a size does not fit another, or the images the patches.
        """
        return self.tokens(x, train)[0]

    @nn.compact
    def tokens(self, x: Array, train: bool, mask: Array | None = None) -> tuple[Array, Array]:
        """The [CLS] token f32[B, features] and the patches f32[B, N, features], row by row, after the last norm.

        x: f32[B, H, W, 3], normalised; N is H / patch * W / patch. Where `mask` bool[B, N] is True, the mask token
        stands for the patch. Raises UserError as `__call__` does, and if there is a mask but no mask token.
        """
        width, _, _ = self.sizes()
        x = self._patches(x.astype(self.dtype))
        grid = x.shape[1], x.shape[2]
        x = x.reshape(x.shape[0], -1, width)
        if self.mask_token:
            token = self.param("mask_token", truncated_normal, (width,), jnp.float32)
            if mask is not None:
                x = jnp.where(mask[:, :, None], token.astype(x.dtype)[None, None], x)
        elif mask is not None:
            raise UserError("mask_token=False leaves nothing to put in place of masked patches: set it to True")
        cls = self.param("cls_token", truncated_normal, (width,), jnp.float32)
        if self.positions == "learnt":
            cls = cls + self.param("cls_position", truncated_normal, (width,), jnp.float32)
            x = x + self._positions(grid, width).astype(x.dtype)[None]
        else:
            x = x + jnp.asarray(_sincos(grid, width), x.dtype)[None]
        first = cls[None]
        if self.registers:
            registers = self.param("register_tokens", truncated_normal, (self.registers, width), jnp.float32)
            first = jnp.concatenate([first, registers])
        first = jnp.broadcast_to(first.astype(x.dtype)[None], (x.shape[0], *first.shape))
        x = jnp.concatenate([first, x], axis=1)
        x = self._blocks(x, train)
        x = LayerNorm(_EPS, name="norm")(x.astype(jnp.float32))
        return x[:, 0], x[:, 1 + self.registers :]

    def _blocks(self, x: Array, train: bool) -> Array:
        _, depth, heads = self.sizes()
        block = functools.partial(rematerialized(Block, self.remat), heads, self.layer_scale)
        names = [f"block{i + 1}" for i in range(depth)]
        factors = drop_path_factors(self, self.drop_path, depth, len(x), train)
        if self.scan and not self.is_initializing() and not self.is_mutable_collection("intermediates"):
            params = [self.get_variable("params", name) for name in names]
            return in_a_loop([block(parent=None)], params, x, train, factors)
        for name, own in zip(names, factors, strict=True):
            x = block(name=name)(x, train, own)
        return x

    def _patches(self, x: Array) -> Array:
        """[B, H, W, 3] to [B, H / patch, W / patch, width]: a convolution whose stride is its size."""
        width, p = self.sizes()[0], self.patch
        batch, height, columns, channels = x.shape
        if p < 1 or height % p or columns % p:
            raise UserError(f"patch={p} does not divide the images of {height} x {columns} px")
        x = x.reshape(batch, height // p, p, columns // p, p, channels).swapaxes(2, 3)
        x = x.reshape(batch, height // p, columns // p, p * p * channels)
        if not self.frozen_patches:
            return Dense(width, name="patches")(x)
        kernel = self.variable("batch_stats", "patches", self._frozen_kernel, (x.shape[-1], width)).value
        return affine(x, kernel, jnp.zeros(width))

    def _frozen_kernel(self, shape: tuple[int, int]) -> Array:
        return nn.initializers.xavier_uniform()(self.make_rng("params"), shape, jnp.float32)

    def _positions(self, grid: tuple[int, int], width: int) -> Array:
        """f32[N, width], the learnt positions of a grid of patches."""
        if not self.has_variable("params", "positions"):
            return self.param("positions", truncated_normal, (*grid, width), jnp.float32).reshape(-1, width)
        learnt = self.get_variable("params", "positions")
        if learnt.shape[:2] != grid:
            rows, columns = (_bicubic(old, new) for old, new in zip(learnt.shape, grid, strict=False))
            learnt = jnp.einsum("hr,wc,rcf->hwf", rows, columns, learnt)
        return learnt.reshape(-1, width)

    def sizes(self) -> tuple[int, int, int]:
        """Width, depth and heads; raises UserError if they do not fit each other."""
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not a ViT: choose one of {', '.join(_VARIANTS)}")
        given = {"width": self.width, "depth": self.depth, "heads": self.heads}
        check_sizes(**given)
        width, depth, heads = (
            default if value is None else value
            for value, default in zip(given.values(), _VARIANTS[self.variant], strict=True)
        )
        if width % heads:
            raise UserError(f"heads={heads} does not divide the width of {width}")
        if self.positions == "sincos" and width % 4:
            raise UserError(f"width={width} must be a multiple of 4 for positions=sincos")
        return width, depth, heads


def cls_attention(encoder: ViT, variables: PyTree, images: Array) -> Array:
    """What [CLS] takes of each patch in the last block (DINO, Caron et al. 2021, figure 1): f32[B, heads, rows, cols].

    A head's weights are at least 0, and sum to 1 with those of [CLS] itself and of the registers, which are left out.

    images: f32[B, H, W, 3], normalised, in evaluation mode.
    """
    _, sown = cast(tuple, encoder.apply(variables, images, train=False, mutable=["intermediates"]))
    _, depth, heads = encoder.sizes()
    (weights,) = sown["intermediates"][f"block{depth}"]["attention"]["weights"]
    patches = weights[:, :, 0, 1 + encoder.registers :]
    return patches.reshape(len(images), heads, images.shape[1] // encoder.patch, -1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and beside the identity."""

    heads: int
    layer_scale: float | None

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None) -> Array:
        """x: [B, N, C]; returns the same shape. `factors` f32[2, B] are those of the two branches, see `drop_path`."""
        first, second = (None, None) if factors is None else factors
        y = Attention(self.heads, name="attention")(LayerNorm(_EPS, name="norm1")(x))
        y = LayerScale(self.layer_scale, name="layer_scale1")(y)
        x = x + drop_path(y, first)
        y = FeedForward(4 * x.shape[-1], name="feed_forward")(LayerNorm(_EPS, name="norm2")(x))
        y = LayerScale(self.layer_scale, name="layer_scale2")(y)
        return x + drop_path(y, second)


def _bicubic(old: int, new: int) -> np.ndarray:
    """f32[new, old]: cubic convolution (Keys 1981, with a = -3/4 as in PyTorch) from `old` points to `new`.

    Points are the centers of equal cells, and those beyond the edge repeat it. Without antialiasing each new point
    depends on four old ones however many there are.
    """
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    nearest = np.floor(centers).astype(int)[:, None] + np.arange(-1, 3)[None]
    matrix = np.zeros((new, old), np.float32)
    np.add.at(matrix, (np.arange(new)[:, None], nearest.clip(0, old - 1)), cubic(centers[:, None] - nearest, -0.75))
    return matrix


def cubic(offset: np.ndarray, a: float) -> np.ndarray:
    """The kernel of cubic convolution (Keys 1981), at offsets from its center; zero from 2 on."""
    distance = np.abs(offset).clip(max=2)
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)


def _sincos(grid: tuple[int, int], width: int) -> np.ndarray:
    """f32[N, width]: sines and cosines of each patch's column and row, at width / 4 frequencies (MoCo v3)."""
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = (np.indices(grid).reshape(2, -1, 1) * frequencies[None, None]).astype(np.float32)
    return np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
