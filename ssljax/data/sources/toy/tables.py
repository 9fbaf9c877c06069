"""The tables of the toy catalogue: its colours, shapes, patterns, logos and backgrounds, as small drawings.

Coordinates are in [-1, 1], y down, as in images.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

COLOURS = {
    "red": (200, 38, 44),
    "orange": (238, 126, 40),
    "yellow": (246, 203, 62),
    "green": (62, 142, 70),
    "teal": (34, 150, 152),
    "blue": (54, 108, 204),
    "navy": (32, 44, 92),
    "purple": (118, 66, 156),
    "pink": (238, 142, 172),
    "brown": (122, 78, 48),
    "black": (42, 42, 46),
    "grey": (142, 146, 152),
    "white": (240, 238, 232),
}
MATERIALS = {"matte": 0.0, "glossy": 0.3, "satin": 0.13}  # the strength of highlights


class Part(NamedTuple):
    """A polygon of a shape. Symmetric ones give their right half, from top to bottom."""

    points: tuple[tuple[float, float], ...]
    kind: str = "body"  # or trim (in the accent colour), shade (darker) or hole
    mirror: bool = False
    smooth: int = 0  # rounds of cutting corners


def disc(x: float, y: float, rx: float, ry: float, kind: str = "body") -> Part:
    """An ellipse of radii `rx`, `ry` around (x, y)."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return Part(tuple((x + rx * np.cos(a), y + ry * np.sin(a)) for a in angles), kind)


def half(*points: tuple[float, float], kind: str = "body", smooth: int = 0) -> Part:
    """A part that is symmetric about the vertical axis, by its right half."""
    return Part(points, kind, mirror=True, smooth=smooth)


# each shape: where its logo goes (x, y, radius), and its parts from back to front
SHAPES: dict[str, tuple[tuple[float, float, float], list[Part]]] = {
    "mug": ((-0.14, 0.1, 0.29), [
        disc(0.47, 0.05, 0.36, 0.4),
        disc(0.47, 0.05, 0.2, 0.24, "hole"),
        Part(((-0.72, -0.62), (0.46, -0.62), (0.42, 0.7), (0.3, 0.8), (-0.56, 0.8), (-0.68, 0.7))),
        disc(-0.13, -0.62, 0.59, 0.14, "trim"),
        disc(-0.13, -0.61, 0.51, 0.1, "shade"),
    ]),
    "t-shirt": ((0, -0.05, 0.28), [
        half((0.2, -0.78), (0.42, -0.74), (0.95, -0.34), (0.72, -0.02), (0.5, -0.18), (0.52, 0.84)),
        disc(0, -0.78, 0.27, 0.21, "trim"),
        disc(0, -0.82, 0.2, 0.18, "hole"),
        Part(((-0.5, -1), (0.5, -1), (0.5, -0.84), (0.2, -0.78), (-0.2, -0.78), (-0.5, -0.84)), "hole"),
        Part(((0.5, -0.18), (0.53, -0.18), (0.5, -0.5)), "shade"),
        Part(((-0.5, -0.18), (-0.53, -0.18), (-0.5, -0.5)), "shade"),
    ]),
    "bottle": ((0, 0.28, 0.27), [
        half((0.14, -0.7), (0.14, -0.42), (0.4, -0.2), (0.42, 0.1), (0.42, 0.84), (0.34, 0.92), smooth=1),
        half((0.18, -0.95), (0.18, -0.66), kind="trim"),
        half((0.18, -0.68), (0.18, -0.62), kind="shade"),
    ]),
    "tote bag": ((0, 0.3, 0.3), [
        disc(0, -0.3, 0.36, 0.6, "trim"),
        disc(0, -0.28, 0.27, 0.5, "hole"),
        half((0.62, -0.3), (0.72, 0.86)),
        half((0.62, -0.3), (0.63, -0.22), kind="shade"),
    ]),
    "cap": ((-0.12, -0.08, 0.26), [
        Part(((0.3, 0.2), (0.95, 0.3), (1.0, 0.46), (0.5, 0.5), (-0.68, 0.4)), "trim", smooth=2),
        Part(((-0.76, 0.44), (-0.78, -0.05), (-0.5, -0.52), (-0.1, -0.62), (0.34, -0.46), (0.58, 0), (0.56, 0.4)),
             smooth=1),
        disc(-0.1, -0.6, 0.08, 0.05, "trim"),
        Part(((-0.72, 0.36), (0.5, 0.32), (0.5, 0.4), (-0.72, 0.42)), "shade"),
    ]),
    "sneaker": ((-0.42, 0.14, 0.21), [
        Part(((-0.86, 0.4), (-0.84, -0.42), (-0.6, -0.36), (-0.3, -0.46), (0.1, -0.12), (0.6, 0.06), (0.92, 0.2),
             (0.94, 0.42)), smooth=1),
        Part(((-0.88, 0.36), (0.92, 0.36), (0.97, 0.46), (0.9, 0.58), (-0.86, 0.58)), "trim"),
        Part(((-0.3, -0.42), (-0.12, -0.3), (-0.2, -0.2), (-0.38, -0.32)), "trim"),
        Part(((-0.06, -0.24), (0.1, -0.12), (0.02, -0.02), (-0.14, -0.14)), "trim"),
        Part(((0.55, 0.06), (0.6, 0.08), (0.62, 0.36), (0.56, 0.36)), "shade"),
    ]),
    "vase": ((0, 0.24, 0.28), [
        half((0.3, -0.9), (0.22, -0.8), (0.16, -0.5), (0.3, -0.25), (0.6, 0.05), (0.6, 0.45), (0.34, 0.85),
            (0.34, 0.9), smooth=2),
        disc(0, -0.87, 0.26, 0.06, "trim"),
        disc(0, -0.86, 0.2, 0.04, "shade"),
    ]),
    "cushion": ((0, 0, 0.3), [half((0, -0.7), (0.85, -0.85), (0.72, 0), (0.85, 0.85), (0, 0.7), smooth=1)]),
    "lamp": ((0, -0.32, 0.24), [
        half((0.06, 0), (0.06, 0.8), kind="trim"),
        disc(0, 0.82, 0.36, 0.1, "trim"),
        half((0.36, -0.9), (0.7, 0.1)),
        half((0.69, 0.05), (0.7, 0.1), kind="shade"),
    ]),
    "sock": ((-0.18, -0.2, 0.22), [
        Part(((-0.46, -0.85), (0.1, -0.85), (0.08, 0.1), (0.55, 0.36), (0.78, 0.6), (0.6, 0.86), (0.2, 0.84),
             (-0.4, 0.52), (-0.48, 0.2)), smooth=1),
        Part(((-0.46, -0.88), (0.12, -0.88), (0.11, -0.64), (-0.46, -0.64)), "trim"),
        Part(((0.62, 0.4), (0.82, 0.6), (0.6, 0.86), (0.42, 0.85)), "trim", smooth=1),
    ]),
    "plate": ((0, 0, 0.34), [
        disc(0, 0, 0.86, 0.86, "trim"),
        disc(0, 0, 0.8, 0.8),
        disc(0, 0, 0.54, 0.54, "shade"),
        disc(0, 0.02, 0.52, 0.52),
    ]),
    "dress": ((0, -0.22, 0.2), [
        half((0.12, -0.9), (0.3, -0.92), (0.34, -0.5), (0.24, -0.08), (0.66, 0.84)),
        disc(0, -0.9, 0.17, 0.24, "hole"),
        half((0.26, -0.12), (0.25, 0.0), kind="trim"),
    ]),
}  # fmt: skip

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]

# where a pattern shows the accent colour: positive inside, about 1 at a distance of 1 / 8 from the edge
PATTERNS: dict[str, Field | None] = {
    "plain": None,
    "striped": lambda x, y: np.sin(13 * y),
    "pinstriped": lambda x, y: np.sin(24 * x) - 0.72 + 0 * y,
    "dotted": lambda x, y: np.sin(11 * x) * np.sin(11 * y) * 1.6 - 0.62,
    "checked": lambda x, y: np.sign(np.sin(9 * x)) * np.sin(9 * y),
    "zigzag": lambda x, y: np.sin(10 * (y + 0.5 * np.abs((2.4 * x) % 1 - 0.5))),
    "diagonal": lambda x, y: np.sin(9.5 * (x + y)),
    "colour-block": lambda x, y: 8 * (y - 0.08) + 0 * x,
}

LOGOS: dict[str, list[Part]] = {
    "": [],
    "star": [Part(tuple((r * np.sin(k * 0.2 * np.pi), -r * np.cos(k * 0.2 * np.pi)) for k, r in
                        enumerate([0.95, 0.4] * 5)))],
    "heart": [half((0, -0.35), (0.4, -0.85), (0.95, -0.5), (0.75, 0.1), (0, 0.9), smooth=2)],
    "moon": [disc(0, 0, 0.85, 0.85), disc(0.42, -0.15, 0.68, 0.68, "hole")],
    "bolt": [Part(((0.35, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.35, 1), (0.6, -0.25), (0.05, -0.25)))],
    "tree": [half((0, -0.95), (0.5, -0.3), (0.3, -0.3), (0.8, 0.5), (0.2, 0.5), (0.2, 0.95))],
    "ring": [disc(0, 0, 0.85, 0.85), disc(0, 0, 0.48, 0.48, "hole")],
    "crown": [half((0, -0.75), (0.35, 0), (0.9, -0.6), (0.75, 0.7))],
    "cross": [Part(tuple((0.3 * x, 0.3 * y) for x, y in
                         ((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1),
                          (-3, -1), (-1, -1))))],
}  # fmt: skip

BACKGROUNDS = ("studio", "paper", "table", "wood", "tiles", "linen", "wall")
