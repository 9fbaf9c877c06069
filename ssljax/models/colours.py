"""Colours of a photo as an encoder in which nothing learns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssljax.models.layers import check_sizes
from ssljax.models.weights.preprocessing import Preprocessing
from ssljax.types import Array, UserError

# linear sRGB to CIE XYZ under the white D65 (IEC 61966-2-1); divided by its sums, white is 1, 1, 1
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
_XYZ /= _XYZ.sum(axis=1, keepdims=True)
_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], np.float32)  # of the roots of XYZ, less those of black


class ColourHistogram(nn.Module):
    """How much of a photo has which colour, without what is white: for catalogues, whose background is.

    A histogram over cells of L*, a* and b* (CIE 15; sRGB by IEC 61966-2-1), which sums to 1, and the square root of
    each entry, so that the result has unit length and cosines compare histograms by their Bhattacharyya coefficient. A
    colour between the centers of cells counts for both in proportion to its nearness. A photo that is all white has 0.
    Source: Swain & Ballard 1991, "Color indexing"; square roots as in Arandjelović & Zisserman 2012, "Three things
    everyone should know to improve object retrieval", section 3.
    """

    lightness: int = 5
    """cells of L*, with centers from 0 to 100; 1 leaves lightness out"""
    chroma: int = 9
    """cells of a*, and as many of b*, with centers from -`limit` to `limit`: an odd number has one for grey"""
    limit: float = 60.0
    """the largest a* and b*; more vivid colours count as these"""
    white: float = 0.94
    """a pixel is background, and not counted, if red, green and blue are all at least this; above 1 all are counted"""
    preprocessing: Preprocessing = Preprocessing()
    """how photos were normalised, to see their colours: that of the encoder beside it"""

    @property
    def features(self) -> int:
        """Length of the result."""
        return self.lightness * self.chroma**2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x: f32[B, H, W, 3], normalised; returns f32[B, features], and no gradient.

        Raises UserError if a setting cannot be.
        """
        check_sizes(lightness=self.lightness, chroma=self.chroma)
        for field, value, usual in (("limit", self.limit, 60), ("white", self.white, 0.94)):
            if not value > 0:
                raise UserError(f"{field}={value} must be above 0: try {usual}")
        x = jax.lax.stop_gradient(x.astype(jnp.float32)).reshape(x.shape[0], x.shape[1] * x.shape[2], 3)
        mean, std = (jnp.array(values)[None, None] for values in (self.preprocessing.mean, self.preprocessing.std))
        rgb = jnp.clip(x * std + mean, 0, 1)
        counted = (rgb.min(axis=2, keepdims=True) < self.white).astype(jnp.float32)
        colours = lab(rgb)
        light = _shares(colours[..., 0], self.lightness, 0.0, 100.0) * counted
        rows, columns = (_shares(colours[..., i], self.chroma, -self.limit, self.limit) for i in (1, 2))
        # products of matrices, one for each lightness, as accelerators are slow to add up scattered entries
        counts = jnp.concatenate(
            [
                jnp.einsum("bpi,bpj->bij", rows * light[..., i : i + 1], columns, precision="highest")
                for i in range(self.lightness)
            ],
            axis=1,
        ).reshape(x.shape[0], self.features)
        return jnp.sqrt(counts / jnp.maximum(counts.sum(axis=1, keepdims=True), 1e-6))


def lab(rgb: Array) -> Array:
    """CIELAB of sRGB f32[..., 3] in [0, 1] under the white D65: L* from 0 to 100, a* and b*, 0 for grey."""
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = jnp.einsum("...c,xc->...x", linear, _XYZ, precision="highest")
    # the cube root, with a line near 0, where it is too steep
    edge = 6 / 29
    root = jnp.where(xyz > edge**3, jnp.maximum(xyz, edge**3) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29)
    return jnp.einsum("...x,lx->...l", root - 4 / 29, _LAB, precision="highest")


def _shares(values: Array, cells: int, low: float, high: float) -> Array:
    """f32[..., cells], of values f32[...]: the share of each in cells with centers from `low` to `high`."""
    places = (jnp.clip(values, low, high) - low) * ((cells - 1) / (high - low))
    centers = jnp.arange(cells, dtype=jnp.float32).reshape(*(1 for _ in values.shape), cells)
    return jnp.maximum(0, 1 - jnp.abs(places[..., None] - centers))
