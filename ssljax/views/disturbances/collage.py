"""Collages: a photo that shows several items, as sellers put them together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ssljax.types import UserError
from ssljax.views.disturbances.disturbance import Disturbance, Take, change
from ssljax.views.resample import line_weights, resample

Cells = list[tuple[float, float, float, float]]  # left, top, width and height, as shares of the picture; the main first

MOST = 6
GAP = 0.03  # the widest gap between items, as a share of the picture
NOWHERE = (2.0, 2.0, 1.0, 1.0)  # the cell of an item that is not shown


def _grid(rows: int, columns: int, main: int = 0) -> Cells:
    cells = [(c / columns, r / rows, 1 / columns, 1 / rows) for r in range(rows) for c in range(columns)]
    return [cells[main], *cells[:main], *cells[main + 1 :]]


def _beside(others: int, share: float) -> Cells:
    """One of this share of the width, the others in a column."""
    return [(0, 0, share, 1), *((share, k / others, 1 - share, 1 / others) for k in range(others))]


def _below(others: int, share: float) -> Cells:
    return [(top, left, height, width) for left, top, width, height in _beside(others, share)]


def _around() -> Cells:
    """One of two thirds of the sides, five along two of its edges."""
    small = [(x / 3, y / 3, 1 / 3, 1 / 3) for x, y in ((2, 0), (2, 1), (2, 2), (1, 2), (0, 2))]
    return [(0, 0, 2 / 3, 2 / 3), *small]


LAYOUTS = (  # by their number of items; mirrored, they have the main item wherever it can be
    *(_grid(1, 2), _grid(2, 1), _beside(1, 0.75), _below(1, 0.75)),
    *(_beside(2, 0.6), _below(2, 0.6)),
    *(_grid(2, 2), _beside(3, 0.6), _below(3, 0.6)),
    *(_beside(4, 0.6), _below(4, 0.6), _grid(2, 3)[:5], _grid(3, 2)[:5]),
    *(_grid(2, 3), _grid(2, 3, main=1), _grid(3, 2), _grid(3, 2, main=2), _around()),
)


@dataclasses.dataclass(frozen=True)
class Collage(Disturbance):
    """The image becomes one of several items: in a grid, or large with small ones beside it, on white.

    The other items are the images that follow in the batch (see `Take`); for local crops these are crops of the same
    photo. The view keeps the label and partner of its main item. Each item is shown whole, or cropped to fill its cell,
    or in between.
    """

    most: int = 6
    """Items at strength 1, including the main one: from 2 to 6, and at most the batch size."""

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.most <= MOST:
            raise UserError(f"Collage.most={self.most}: choose from 2 to {MOST} items")

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """As `Disturbance.disturb`; raises UserError if the batch has fewer than `most` images."""
        batch, _, height, width = images.shape
        if self.most > batch:
            raise UserError(f"Collage.most={self.most} is more than the batch has, {batch}: choose at most {batch}")
        layout_rng, mirror_rng, fill_rng, gap_rng = jax.random.split(rng, 4)
        items = 1 + jnp.ceil(strength * (self.most - 1)).astype(jnp.int32)
        cells = _draw_cells(layout_rng, items, self.most)
        left, top, cell_width, cell_height = jnp.unstack(cells, axis=2)
        mirrored = jax.random.bernoulli(mirror_rng, shape=(2, batch, 1))
        left = jnp.where(mirrored[0], 1 - left - cell_width, left)
        top = jnp.where(mirrored[1], 1 - top - cell_height, top)

        # An item has the shape of the picture: shares of the width and of the height are the same.
        whole, filling = jnp.minimum(cell_width, cell_height), jnp.maximum(cell_width, cell_height)
        scale = whole + (filling - whole) * jax.random.uniform(fill_rng, (batch, 1))
        gap = GAP * jax.random.uniform(gap_rng, (batch, 1))

        def collage(take: Take) -> Array:
            result = 1.0
            for k in range(self.most):
                cell = (take(value[:, k]) for value in (top, cell_height, left, cell_width, scale))
                item_top, item_height, item_left, item_width, item_scale = cell
                rows = _line(item_top, item_height, item_scale, take(gap[:, 0]), height)
                columns = _line(item_left, item_width, item_scale, take(gap[:, 0]), width)
                # White is 0, so that what no item covers is white.
                item = 1 - take(images, ahead=k)
                result -= resample(item, rows, columns)
            return jnp.clip(result, 0, 1)

        return change(images, items > 1, collage)


def _draw_cells(rng: Array, items: Array, most: int) -> Array:
    """f32[B, most, 4], the cells of a random layout of i32[B] items; those of one item are never looked at."""
    table = np.full((len(LAYOUTS), MOST, 4), NOWHERE, np.float32)
    for cells, row in zip(LAYOUTS, table, strict=True):
        row[: len(cells)] = cells
    first = np.searchsorted([len(cells) for cells in LAYOUTS], range(MOST + 2))  # of each number of items
    number = jnp.asarray(np.diff(first))[items]
    chosen = jnp.floor(jax.random.uniform(rng, items.shape) * number).astype(jnp.int32)
    return jnp.asarray(table)[jnp.asarray(first)[items] + chosen, :most]


def _line(start: Array, extent: Array, scale: Array, gap: Array, size: int) -> Array:
    """The matrix f32[B, size, size] that shows a line at `scale` in the middle of a cell, and nothing outside."""
    middle = (start + extent / 2) * size
    visible = (jnp.minimum(extent - gap, scale) * size / 2)[:, None]
    place = jnp.arange(size)[None] + 0.5 - middle[:, None]
    covered = jnp.clip(visible - jnp.abs(place) + 0.5, 0, 1)  # how much of each pixel
    return covered[:, :, None] * line_weights(size / 2 + place / scale[:, None], 1 / scale, size)
