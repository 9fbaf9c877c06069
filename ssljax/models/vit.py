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
    FeedForwardKind,
    LayerNorm,
    LayerScale,
    affine,
    check_sizes,
    truncated_normal,
)
from ssljax.models.weights.preprocessing import Preprocessing
from ssljax.types import Array, PyTree, UserError

# width, depth, heads, channels within the feed-forward layers
_VARIANTS = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "So400m": (1152, 27, 16, 4304),
    "H+": (1280, 32, 20, 5120),
    "g": (1536, 40, 24, 4096),
}


class ViT(nn.Module):
    """A vision transformer without its classifier: images in, the [CLS] token after the last norm out.

    The networks whose weights can be imported:

    - DINOv2: `ViT("B", patch=14, layer_scale=1e-5, registers=4)`; its g has `feed_forward="swiglu"`.
    - DINOv3: `ViT("B", positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5)`; S+ is S, and H+ itself, with
      `feed_forward="swiglu"`.
    - SigLIP and SigLIP 2: `ViT("B", pooling="attention", feed_forward="gelu_tanh")`.

    The learnt positions are those of the images it is initialised with. For images of another size they are
    interpolated: bicubic and without antialiasing, as in DINO and its successors.
    """

    variant: Literal["Ti", "S", "B", "L", "So400m", "H+", "g"] = "S"
    """192, 384, 768 or 1024 channels; SigLIP's of 400 million parameters, DINOv3's huge, DINOv2's giant"""
    patch: int = 16
    """side of a patch, px; both sides of an image must be multiples of it"""
    width: int | None = None
    """channels, instead of the variant's"""
    depth: int | None = None
    """blocks, instead of the variant's"""
    heads: int | None = None
    """attention heads, instead of the variant's (MoCo v3's S has 12); must divide the width"""
    hidden: int | None = None
    """channels within the feed-forward layers, instead of the variant's, or of 4 x the width if that is given"""
    feed_forward: FeedForwardKind = "gelu"
    """gelu_tanh: GELU's approximation by tanh (SigLIP); swiglu: gated by a third linear layer"""
    qkv_bias: bool = True
    """queries, keys and values have biases; with positions=rope the keys never have (DINOv3)"""
    epsilon: float = 1e-6
    """added to the norms' variances; 1e-5 in DINOv3, 1e-12 in Hugging Face's ViT"""
    positions: Literal["learnt", "sincos", "rope"] = "learnt"
    """sincos: fixed sines and cosines of row and column (MoCo v3); rope: those rotate queries and keys (DINOv3)"""
    pooling: Literal["cls", "attention"] = "cls"
    """attention: there is no [CLS]; a learnt query attends to the patches after the last norm (SigLIP)"""
    frozen_patches: bool = False
    """the projection of the patches stays as initialised (MoCo v3); it is then kept beside the batch statistics"""
    registers: int = 0
    """learnt tokens beside the patches, which take part and are thrown away (Darcet et al. 2024: 4)"""
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

    @property
    def preprocessing(self) -> Preprocessing:
        """SigLIP's with pooling=attention: photos are squeezed, means and deviations are .5; else ImageNet's."""
        if self.pooling != "attention":
            return Preprocessing()
        halves = (0.5, 0.5, 0.5)
        return Preprocessing(mean=halves, std=halves, fit="squeeze")

    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features], the [CLS] token, or what is pooled.

        Raises UserError if a size does not fit another, or the images the patches.
        """
        return self.tokens(x, train)[0]

    @nn.compact
    def tokens(self, x: Array, train: bool, mask: Array | None = None) -> tuple[Array, Array]:
        """The result f32[B, features] and the patches f32[B, N, features], row by row, after the last norm.

        x: f32[B, H, W, 3], normalised; N is H / patch * W / patch. Where `mask` bool[B, N] is True, the mask token
        stands for the patch. Raises UserError as `__call__` does, and if there is a mask but no mask token.
        """
        width, _, heads, hidden = self.sizes()
        x = self._patches(x.astype(self.dtype))
        grid = x.shape[1], x.shape[2]
        x = x.reshape(x.shape[0], -1, width)
        if self.mask_token:
            token = self.param("mask_token", truncated_normal, (width,), jnp.float32)
            if mask is not None:
                x = jnp.where(mask[:, :, None], token.astype(x.dtype)[None, None], x)
        elif mask is not None:
            raise UserError("mask_token=False leaves nothing to put in place of masked patches: set it to True")
        if self.positions == "learnt":
            x = x + self._positions(grid, width).astype(x.dtype)[None]
        elif self.positions == "sincos":
            x = x + jnp.asarray(sincos(grid, width), x.dtype)[None]
        first = self._first(width)
        first = jnp.broadcast_to(first.astype(x.dtype)[None], (x.shape[0], *first.shape))
        x = self._blocks(jnp.concatenate([first, x], axis=1), grid, train)
        x = LayerNorm(self.epsilon, name="norm")(x.astype(jnp.float32))
        patches = x[:, len(first[0]) :]
        if self.pooling == "cls":
            return x[:, 0], patches
        return AttentionPool(heads, hidden, self.feed_forward, self.epsilon, name="pool")(patches), patches

    def _first(self, width: int) -> Array:
        """f32[N, width], the tokens before the patches: [CLS], with its position, and the registers."""
        first = jnp.zeros((0, width), jnp.float32)
        if self.pooling == "cls":
            cls = self.param("cls_token", truncated_normal, (width,), jnp.float32)
            if self.positions == "learnt":
                cls = cls + self.param("cls_position", truncated_normal, (width,), jnp.float32)
            first = cls[None]
        if self.registers:
            registers = self.param("register_tokens", truncated_normal, (self.registers, width), jnp.float32)
            first = jnp.concatenate([first, registers])
        return first

    def _blocks(self, x: Array, grid: tuple[int, int], train: bool) -> Array:
        _, depth, heads, hidden = self.sizes()
        block = functools.partial(
            rematerialized(Block, self.remat),
            heads,
            self.layer_scale,
            hidden,
            self.feed_forward,
            self.biases(),
            self.epsilon,
            grid if self.positions == "rope" else None,
        )
        names = [f"block{i + 1}" for i in range(depth)]
        factors = drop_path_factors(self, self.drop_path, depth, x.shape[0], train)
        if self.scan and not self.is_initializing() and not self.is_mutable_collection("intermediates"):
            params = [self.get_variable("params", name) for name in names]
            return in_a_loop([block(parent=None)], params, x, train, factors)
        for name, own in zip(names, factors, strict=True):
            x = block(name=name)(x, train, own)
        return x

    def biases(self) -> tuple[str, ...]:
        """The projections of the attention that have a bias."""
        if not self.qkv_bias:
            return ()
        return ("query", "value") if self.positions == "rope" else ("query", "key", "value")

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

    def sizes(self) -> tuple[int, int, int, int]:
        """Width, depth, heads and channels within the feed-forward layers; raises UserError if they do not fit."""
        if self.variant not in _VARIANTS:
            raise UserError(f"variant={self.variant} is not a ViT: choose one of {', '.join(_VARIANTS)}")
        given = {"width": self.width, "depth": self.depth, "heads": self.heads, "hidden": self.hidden}
        check_sizes(**given)
        if self.width is not None and self.hidden is None:
            given["hidden"] = 4 * self.width
        width, depth, heads, hidden = (
            default if value is None else value
            for value, default in zip(given.values(), _VARIANTS[self.variant], strict=True)
        )
        if width % heads:
            raise UserError(f"heads={heads} does not divide the width of {width}")
        if self.positions == "sincos" and width % 4:
            raise UserError(f"width={width} must be a multiple of 4 for positions=sincos")
        if self.positions == "rope" and width // heads % 4:
            raise UserError(f"heads={heads} must leave each a multiple of 4 of the {width} channels for positions=rope")
        return width, depth, heads, hidden


def cls_attention(encoder: ViT, variables: PyTree, images: Array) -> Array:
    """What [CLS] takes of each patch in the last block (DINO, Caron et al. 2021, figure 1): f32[B, heads, rows, cols].

    A head's weights are at least 0, and sum to 1 with those of [CLS] itself and of the registers, which are left out.
    With pooling=attention, what the query that pools takes of each: they sum to 1.

    images: f32[B, H, W, 3], normalised, in evaluation mode.
    """
    _, sown = cast(tuple, encoder.apply(variables, images, train=False, mutable=["intermediates"]))
    _, depth, heads, _ = encoder.sizes()
    pooled = encoder.pooling == "attention"
    (weights,) = sown["intermediates"]["pool" if pooled else f"block{depth}"]["attention"]["weights"]
    patches = weights[:, :, 0, 0 if pooled else 1 + encoder.registers :]
    return patches.reshape(len(images), heads, images.shape[1] // encoder.patch, -1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and beside the identity; or with the norm after the sum."""

    heads: int
    layer_scale: float | None
    hidden: int
    feed_forward: FeedForwardKind
    biases: tuple[str, ...]
    epsilon: float
    rope: tuple[int, int] | None  # rows and columns of the patches, the last tokens
    post_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool, factors: Array | None = None, mask: Array | None = None) -> Array:
        """x: [B, N, C]; returns the same shape. `factors` f32[2, B] are those of the two branches, see `drop_path`.

        Where `mask` bool[B, 1, N, N] is False nothing is attended to.
        """
        first, second = (None, None) if factors is None else factors
        norm1, norm2 = (LayerNorm(self.epsilon, name=f"norm{i}") for i in (1, 2))
        y = x if self.post_norm else norm1(x)
        y = Attention(self.heads, self.biases, self.rope, name="attention")(y, mask=mask)
        y = LayerScale(self.layer_scale, name="layer_scale1")(y)
        x = x + drop_path(y, first)
        x, y = (norm1(x),) * 2 if self.post_norm else (x, norm2(x))
        y = FeedForward(self.hidden, self.feed_forward, name="feed_forward")(y)
        y = LayerScale(self.layer_scale, name="layer_scale2")(y)
        x = x + drop_path(y, second)
        return norm2(x) if self.post_norm else x


class AttentionPool(nn.Module):
    """A learnt query that attends to all tokens, then a feed-forward layer beside the identity (Zhai et al. 2022)."""

    heads: int
    hidden: int
    feed_forward: FeedForwardKind
    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: f32[B, N, C]; returns f32[B, C]."""
        probe = self.param("probe", truncated_normal, x.shape[-1:], jnp.float32)
        probe = jnp.broadcast_to(probe[None, None], (len(x), 1, x.shape[-1]))
        x = Attention(self.heads, name="attention")(x, query=probe)
        y = LayerNorm(self.epsilon, name="norm")(x)
        return (x + FeedForward(self.hidden, self.feed_forward, name="feed_forward")(y))[:, 0]


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


def sincos(grid: tuple[int, int], width: int) -> np.ndarray:
    """f32[N, width]: sines and cosines of each patch's column and row, at width / 4 frequencies (MoCo v3)."""
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = (np.indices(grid).reshape(2, -1, 1) * frequencies[None, None]).astype(np.float32)
    return np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
