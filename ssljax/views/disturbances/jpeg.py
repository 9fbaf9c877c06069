"""JPEG compression: photos lose detail each time they are saved for the web."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from ssljax.types import UserError
from ssljax.views.disturbances.disturbance import Disturbance, change

# ITU-T T.81, tables K.1 and K.2: the steps of quality 50 for brightness and for colour, vertical frequency downwards.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@dataclasses.dataclass(frozen=True)
class JPEG(Disturbance):
    """The blocks and ringing of JPEG compression."""

    quality: tuple[float, float] = (10, 95)
    """The quality at strength 1, and that at the smallest strength, on libjpeg's scale of 1 to 100."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise UserError(f"JPEG.quality={self.quality}: choose two qualities from 1 to 100, the smaller first")

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        low, high = self.quality
        quality = high - strength * (high - low)
        return change(images, strength > 0, lambda take: jpeg(take(images), take(quality)))


def jpeg(images: Array, quality: Array) -> Array:
    """The images saved as JPEG and read again: baseline, 4:2:0, the standard tables, as Pillow and libjpeg by default.

    Everything that libjpeg rounds is rounded here by the same rule. Its cosines have 13 bits, these have 24: now and
    then a coefficient halfway between two steps is rounded the other way, and a block differs by one step.

    Args:
        images: f32[B, 3, H, W] in [0, 1], rounded to 8 bits first.
        quality: f32[B], from 1 to 100.

    Returns:
        f32[B, 3, H, W] in [0, 1], multiples of 1 / 255.
    """
    height, width = images.shape[2:]
    red, green, blue = jnp.unstack(jnp.round(255 * images), axis=1)
    y = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = jnp.round(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue)
    cr = jnp.round(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue)

    y = _compressed(y, _steps(LUMA, quality))
    steps = _steps(CHROMA, quality)
    cb, cr = (_doubled(_compressed(_halved(c), steps))[:, :height, :width] - 128 for c in (cb, cr))

    red = y + jnp.round(1.402 * cr)
    green = y + jnp.round(-0.344136286 * cb - 0.714136286 * cr)
    blue = y + jnp.round(1.772 * cb)
    return jnp.clip(jnp.stack([red, green, blue], axis=1), 0, 255) / 255


def _steps(table: tuple[tuple[int, ...], ...], quality: Array) -> Array:
    """f32[B, 8, 8]: the table scaled for the quality f32[B], as in libjpeg's `jpeg_quality_scaling`."""
    scale = jnp.where(quality < 50, 50 / quality, 2 - quality / 50)
    return jnp.clip(_rounded(scale[:, None, None] * jnp.array(table, jnp.float32)[None]), 1, 255)


def _halved(plane: Array) -> Array:
    """f32[B, ceil(H / 2), ceil(W / 2)] of f32[B, H, W]: means of 2 x 2, halves rounded down and up in turn."""
    plane = _padded(plane, 2)
    sums = plane[:, ::2, ::2] + plane[:, 1::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, 1::2]
    return jnp.floor((sums + 1 + jnp.arange(sums.shape[2])[None, None] % 2) / 4)


def _doubled(plane: Array) -> Array:
    """f32[B, 2 H, 2 W] of f32[B, H, W]: 9/16 of the nearest pixel, 3/16 of those beside it, 1/16 of the diagonal."""
    padded = jnp.pad(plane, ((0, 0), (1, 1), (0, 0)), mode="edge")
    rows = jnp.stack([3 * plane + padded[:, :-2], 3 * plane + padded[:, 2:]], axis=2)
    rows = rows.reshape(plane.shape[0], -1, plane.shape[2])
    padded = jnp.pad(rows, ((0, 0), (0, 0), (1, 1)), mode="edge")
    columns = jnp.stack([3 * rows + padded[:, :, :-2] + 8, 3 * rows + padded[:, :, 2:] + 7], axis=3)
    return jnp.floor(columns.reshape(*rows.shape[:2], -1) / 16)


def _compressed(plane: Array, steps: Array) -> Array:
    """Levels f32[B, H, W] in [0, 255] after the frequencies of each 8 x 8 block became multiples of f32[B, 8, 8].

    DCT has sqrt(8) times the orthonormal rows, so that its rows 0 and 4 are ones and flat blocks have no error. libjpeg
    rounds after the first of two passes to 1 / 4, and the frequencies to 1 / 8.
    """
    height, width = plane.shape[1:]
    plane = _padded(plane, 8)
    blocks = plane.reshape(len(plane), plane.shape[1] // 8, 8, plane.shape[2] // 8, 8) - 128
    rows = _rounded(4 * jnp.einsum("bhywx,vx->bhywv", blocks, DCT, precision="highest"))
    eightfold = _rounded(jnp.einsum("bhywv,uy->bhwuv", rows, DCT, precision="highest") / 4)
    steps = steps[:, None, None]
    frequencies = jnp.sign(eightfold) * _rounded(jnp.abs(eightfold) / (8 * steps)) * steps
    columns = _rounded(4 * jnp.einsum("bhwuv,uy->bhywv", frequencies, DCT, precision="highest"))
    blocks = _rounded(jnp.einsum("bhywv,vx->bhywx", columns, DCT, precision="highest") / 32)
    return jnp.clip(blocks.reshape(plane.shape)[:, :height, :width] + 128, 0, 255)


def _padded(plane: Array, multiple: int) -> Array:
    """f32[B, H, W], the last row and column repeated until the sides are multiples."""
    height, width = plane.shape[1:]
    return jnp.pad(plane, ((0, 0), (0, -height % multiple), (0, -width % multiple)), mode="edge")


def _rounded(x: Array) -> Array:
    """Rounds halves up; jnp.round rounds them to even."""
    return jnp.floor(x + 0.5)


def _dct() -> np.ndarray:
    """f32[8, 8], the discrete cosine transform: row u is frequency u (T.81, A.3.3), times the root of 8."""
    frequency, place = np.mgrid[:8, :8]
    cosine = math.sqrt(2) * np.cos((2 * place + 1) * frequency * math.pi / 16)
    cosine[0] = 1
    return cosine.astype(np.float32)


DCT = _dct()
