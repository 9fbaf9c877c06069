"""The same photo again, re-encoded or resized, told by its pixels from a photo of a product that looks like it.

Measured on 150 photos of Grocery, 160 pixels a side: of photos written again as JPEG of quality 50, as WebP of quality
40, or at 0.6 or 1.6 of their size, 95 to 100 % were found, and 35 % at 0.4 of it. Of 150 photos of Fashion, 60 x 80
pixels: 99 % as JPEG, 87 % at 0.6 of the size, 7 to 29 % of the others. Among 5,057 photos of Fashion there are 80 pairs
of identical photos, and 17 other pairs were taken for the same photo, such as two black wallets. A photo that was
cropped, turned or stamped is another one.
"""

import numpy as np

from ssljax.evaluation.matching.candidates import Candidates
from ssljax.evaluation.nearest import Build
from ssljax.evaluation.vectors import normalise

DECODED = 32  # pixels a side of the photos that prints are made of
SIDE = 16
ALIKE = 0.98  # correlation of two prints: small things on white differ in few pixels, and not in their mean
DIFFERENCE = 15.0  # of 255, that 99 of 100 values stay below: the same thing in another colour differs by more
ASPECT = 0.05  # of the logarithm of width / height
COARSE = 8


def prints(photos: np.ndarray) -> np.ndarray:
    """u8[n, 16, 16, 3]: small copies to compare, of photos u8[n, 32, 32, 3]."""
    return np.round(_shrunk(photos.astype(np.float32), SIDE)).astype(np.uint8)


def same_photo(small: np.ndarray, aspects: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """f32[P]: the difference of each pair of photos, from 0 to 255, or inf if they are not the same photo.

    Args:
      small: u8[n, 16, 16, 3], see `prints`.
      aspects: f32[n], width / height of the photos.
      left: i[P], a photo of each pair.
      right: i[P], the other.
    """
    found = np.full(len(left), np.inf, np.float32)
    for start in range(0, len(left), 2**14):
        part = slice(start, start + 2**14)
        a, b = (small[rows[part]].reshape(-1, SIDE * SIDE * 3).astype(np.float32) for rows in (left, right))
        difference = np.quantile(np.abs(a - b), 0.99, axis=1)
        alike = np.einsum("nd,nd->n", _centered(a), _centered(b)) >= ALIKE
        alike |= difference == 0  # of one colour throughout, and equal
        shape = np.abs(np.log(aspects[left[part]] / aspects[right[part]])) <= ASPECT
        found[part] = np.where(alike & shape & (difference <= DIFFERENCE), difference, np.inf)
    return found


def pixel_candidates(small: np.ndarray, k: int, *, build: Build | None = None) -> Candidates:
    """The k others of each of the prints u8[n, 16, 16, 3] that are most like it at 8 x 8 pixels."""
    coarse = _shrunk(small.astype(np.float32), COARSE).reshape(len(small), -1)
    return Candidates.of(_centered(coarse), k, build=build)


def _shrunk(photos: np.ndarray, side: int) -> np.ndarray:
    """f32[n, side, side, 3], means of squares of photos f32[n, S, S, 3]."""
    n, size = photos.shape[:2]
    return photos.reshape(n, side, size // side, side, size // side, 3).mean(axis=(2, 4))


def _centered(x: np.ndarray) -> np.ndarray:
    """f32[n, D] of mean 0 and unit length, so that the dot product is the correlation."""
    return normalise(x - x.mean(axis=1, keepdims=True))
