"""Strokes, circles and arrows scribbled on a photo."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ssljax.types import UserError, check_fields
from ssljax.views.disturbances.disturbance import Disturbance, Take, change

POINTS = 20  # of a line, joined by straight segments
HEAD = 3  # the last points of an arrow: to one barb, back to the tip, to the other
LENGTH = (0.25, 0.9)  # of a stroke or an arrow, and a circle's width, as shares of the picture's shorter side
COLOURS = (
    *((0.9, 0.1, 0.1), (1.0, 0.0, 0.5), (1.0, 0.5, 0.0), (1.0, 0.9, 0.0), (0.1, 0.7, 0.2)),
    *((0.0, 0.8, 0.9), (0.1, 0.3, 0.9), (0.5, 0.1, 0.7), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


@dataclasses.dataclass(frozen=True)
class Scribble(Disturbance):
    """Wavy strokes, circles and arrows in strong colours; more and thicker ones with greater strength."""

    most: int = 4
    """Lines at strength 1."""
    thickness: tuple[float, float] = (0.01, 0.05)
    """Of a line at the smallest strength, and at strength 1, as a share of the picture's shorter side."""

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "Scribble", most=1)
        thin, thick = self.thickness
        if not 0 < thin <= thick <= 1:
            raise UserError(f"Scribble.thickness={self.thickness}: choose two shares up to 1.0, the smaller first")

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        batch, _, height, width = images.shape
        lines_rng, thick_rng, colour_rng = jax.random.split(rng, 3)
        x, y = _draw_lines(lines_rng, (batch, self.most), height, width)
        thin, thick = self.thickness
        share = strength[:, None] * jax.random.uniform(thick_rng, (batch, self.most), minval=0.5)
        thickness = jnp.maximum(1, min(height, width) * (thin + (thick - thin) * share))
        colour = jnp.array(COLOURS)[jax.random.randint(colour_rng, (batch, self.most), 0, len(COLOURS))]
        drawn = jnp.arange(self.most)[None] < jnp.ceil(self.most * strength)[:, None]

        def scribbled(take: Take) -> Array:
            reach = (take(thickness)[..., None, None] + 1) / 2  # a pixel is covered by what of it lies within the line
            covered = jnp.clip(reach - _distances(take(x), take(y), height, width), 0, 1)
            covered = covered * take(drawn)[..., None, None]
            result, inks = take(images), take(colour)
            for k in range(self.most):
                result = result + covered[:, None, k] * (inks[:, k, :, None, None] - result)
            return result

        return change(images, strength > 0, scribbled)


def _draw_lines(rng: Array, shape: tuple[int, int], height: int, width: int) -> tuple[Array, Array]:
    """The points, f32[B, K, POINTS] across and down in pixels, of a stroke, a circle or an arrow each."""
    kind, along, down, length, turn, bend, flat, phase = jax.random.uniform(rng, (8, *shape, 1))
    way = jnp.linspace(0, 1, POINTS)[None, None]

    waves = 0.5 + 4 * flat
    stroke = way - 0.5, 0.3 * bend * jnp.sin(2 * math.pi * (waves * way + phase))

    angle = 2 * math.pi * (1.1 * way + phase)  # a little more than once around, and ever wider
    radius = 0.45 + 0.1 * bend * way
    circle = radius * jnp.cos(angle), (0.5 + 0.5 * flat) * radius * jnp.sin(angle)

    shaft = jnp.minimum(1, way * (POINTS - 1) / (POINTS - 1 - HEAD))
    bend = 0.4 * (bend - 0.5)
    barbs = np.zeros((2, POINTS), np.float32)
    barbs[:, -HEAD] = -0.2, 0.12
    barbs[:, -1] = -0.2, -0.12
    slope = -math.pi * bend  # of the shaft at its tip
    arrow = (
        shaft - 0.5 + barbs[0][None, None] - slope * barbs[1][None, None],
        bend * jnp.sin(math.pi * shaft) + barbs[1][None, None] + slope * barbs[0][None, None],
    )

    kind = jnp.floor(3 * kind)
    u, v = (jnp.where(kind == 0, s, jnp.where(kind == 1, c, a)) for s, c, a in zip(stroke, circle, arrow, strict=True))
    length = min(height, width) * (LENGTH[0] + (LENGTH[1] - LENGTH[0]) * length)
    cos, sin = jnp.cos(2 * math.pi * turn), jnp.sin(2 * math.pi * turn)
    along, down = 0.1 + 0.8 * along, 0.1 + 0.8 * down  # the middle is in the picture, and not at its edge
    return along * width + length * (cos * u - sin * v), down * height + length * (sin * u + cos * v)


def _distances(x: Array, y: Array, height: int, width: int) -> Array:
    """f32[B, K, H, W]: from the middle of each pixel to each line through the points f32[B, K, POINTS], in pixels.

    Relative to a segment's middle, the distance along the segment counts only beyond its half length, the distance
    across it always; each is a sum of a term of the column and a term of the row.
    """
    dx, dy = jnp.diff(x), jnp.diff(y)
    length = jnp.sqrt(dx**2 + dy**2)
    dx, dy = dx / jnp.maximum(length, 1e-6), dy / jnp.maximum(length, 1e-6)
    middle_x, middle_y = (x[..., 1:] + x[..., :-1]) / 2, (y[..., 1:] + y[..., :-1]) / 2
    column = jnp.arange(width)[None, None, None] + 0.5
    row = jnp.arange(height)[None, None, :, None] + 0.5

    nearest = jnp.inf
    # One after the other, and not a minimum over an axis: XLA for CPUs vectorises this, and is ten times as fast.
    for k in range(POINTS - 1):
        ax, ay, half, mx, my = (v[..., k, None, None] for v in (dx, dy, length / 2, middle_x, middle_y))
        along = ax * (column - mx) + ay * (row - my)
        across = ax * (row - my) - ay * (column - mx)
        nearest = jnp.minimum(nearest, jnp.maximum(0, jnp.abs(along) - half) ** 2 + across**2)
    return jnp.sqrt(nearest)
