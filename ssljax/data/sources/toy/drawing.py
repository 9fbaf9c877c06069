"""The drawing of the toy catalogue's photos: masks of shapes, patterns and logos, posed on a background under a light.

Masks are drawn once a process; a photo is then a few pastes, one perspective warp and some arithmetic (Pillow and
numpy, well under a millisecond).
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ssljax.data.sources.toy.tables import LOGOS, MATERIALS, PATTERNS, SHAPES, Part, disc


class Look(NamedTuple):
    """What a product looks like: names from the tables above, and its colours."""

    shape: str
    pattern: str
    logo: str
    material: str
    colour_name: str
    colour: tuple[int, int, int]
    accent: tuple[int, int, int]


def _outline(part: Part) -> np.ndarray:
    points = np.array(part.points, dtype=float)
    if part.mirror:
        points = np.concatenate([points, points[::-1] * (-1, 1)])
    for _ in range(part.smooth):  # Chaikin's corner cutting
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def _draw(parts: list[Part], kinds: str, side: int, at: tuple[float, float, float] = (0, 0, 1)) -> Image.Image:
    """A mask of the parts of `kinds` (others erase them), drawn four times as large for smooth edges."""
    canvas = Image.new("L", (4 * side, 4 * side))
    draw = ImageDraw.Draw(canvas)
    x, y, radius = at
    for part in parts:
        points = (_outline(part) * radius + (x, y) + 1) * 2 * side
        draw.polygon(list(map(tuple, points)), fill=255 if part.kind in kinds else 0)
    return canvas.reduce(4)


Stamp = tuple[Image.Image, tuple[int, int, int, int]]  # a mask and its place: small ones paste quickly


def _stamp(mask: Image.Image) -> Stamp | None:
    box = mask.getbbox()
    return box and (mask.crop(box), box)


class Masks(NamedTuple):
    """What makes a product of some shape: where it is, and what is pasted on it, one after the other."""

    outline: Image.Image
    trim: Stamp | None
    shade: Stamp | None
    patch: Stamp | None


@functools.cache
def _shape(shape: str, side: int) -> Masks:
    logo, parts = SHAPES[shape]
    shade = _draw(parts, "shade", side).point(lambda v: v * 0.35)
    patch = _draw([disc(0, 0, 1, 1)], "body", side, logo)
    return Masks(
        _draw(parts, "body trim shade", side), _stamp(_draw(parts, "trim", side)), _stamp(shade), _stamp(patch)
    )


@functools.cache
def _logo(logo: str, shape: str, side: int) -> Stamp | None:
    x, y, radius = SHAPES[shape][0]
    return _stamp(_draw(LOGOS[logo], "body", side, (x, y, 0.74 * radius)))


@functools.cache
def _pattern(pattern: str, side: int) -> Image.Image | None:
    field = PATTERNS[pattern]
    if field is None:
        return None
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    return Image.fromarray(
        (np.clip(field(axis[None, :], axis[:, None]) * side / 24 + 0.5, 0, 1) * 255).astype(np.uint8)
    )


def _product(look: Look, side: int) -> Image.Image:
    """The product seen from the front, RGBa[side, side], colours premultiplied by the mask."""
    masks, pattern = _shape(look.shape, side), _pattern(look.pattern, side)
    image = Image.new("RGB", (side, side), look.colour)
    if pattern is not None:
        image.paste(look.accent, mask=pattern)
    dark, light = (36, 36, 44), (250, 248, 240)
    patch, logo = (light, dark) if sum(look.colour) < 330 else (dark, light)
    pasted = [(look.accent, masks.trim), ((0, 0, 0), masks.shade)]
    if look.logo:
        pasted += [(patch, masks.patch), (logo, _logo(look.logo, look.shape, side))]
    for colour, stamp in pasted:
        if stamp is not None:
            image.paste(colour, stamp[1], stamp[0])
    image.putalpha(masks.outline)
    return image.convert("RGBa")


@functools.cache
def _background(name: str, size: int) -> np.ndarray:
    """f32[2 size, 2 size, 3] in [0, 255], of which a photo shows a window."""
    y, x = np.mgrid[: 2 * size, : 2 * size] / size
    rng = np.random.Generator(np.random.Philox(7))
    noise = Image.fromarray((rng.random((9, 9)) * 255).astype(np.uint8))
    grain = np.asarray(noise.resize((2 * size, 2 * size), Image.Resampling.BICUBIC)) / 255 - 0.5
    colour, tone = {
        "studio": ((246, 246, 247), 0.04 * (0.5 - y)),
        "paper": ((240, 234, 226), 0.04 * grain),
        "table": ((232, 226, 218), np.where(y < 1.1, 0.04, -0.04) + 0.03 * grain),
        "wood": ((232, 216, 196), 0.03 * np.sin(22 * y + 5 * grain) - 0.1 * (np.abs((y * 3) % 1 - 0.5) > 0.47)),
        "tiles": ((232, 237, 239), -0.06 * np.maximum((x * 2.5) % 1 > 0.94, (y * 2.5) % 1 > 0.94) + 0.03 * grain),
        "linen": ((226, 224, 218), 0.02 * (np.sin(44 * x) * np.sin(44 * y)) + 0.06 * grain),
        "wall": ((222, 229, 231), np.where(y > 1.2, -0.08, 0.03) + 0.03 * grain),
    }[name]
    return (np.array(colour) * (1 + tone[..., None])).astype(np.float32)


def render(look: Look, background: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A photo u8[size, size, 3] of a product: the pose, the window of the background and the light come from `rng`."""
    turn, zoom, side, squeeze, shear, dx, dy, px, py, wx, wy, light, power, exposure, warmth = rng.random(15) * 2 - 1
    homography = _homography(0.4 * turn, 1.2 + 0.2 * zoom, 0.12 * squeeze, 0.12 * shear, dx, dy, 0.14 * px, 0.14 * py)
    homography[0] *= 1 if side > 0 else -1  # seen from the other side
    pixels = 2 * size
    to_unit = np.array([[2 / size, 0, -1], [0, 2 / size, -1], [0, 0, 1]])
    to_pixels = np.array([[pixels / 2, 0, pixels / 2], [0, pixels / 2, pixels / 2], [0, 0, 1]])
    matrix = to_pixels @ homography @ to_unit
    posed = _product(look, pixels).transform(
        (size, size), Image.Transform.PERSPECTIVE, (matrix / matrix[2, 2]).ravel()[:8], Image.Resampling.BILINEAR
    )
    blurred = posed.getchannel("a").filter(ImageFilter.BoxBlur(size / 16))
    soft = np.asarray(blurred, dtype=np.float32) / 255
    posed = np.asarray(posed, dtype=np.float32)
    # the blurred mask is a height: its slope towards the light brightens, away from it darkens, as on a cushion
    lx, ly = np.sin(1.1 * light), -np.cos(1.1 * light)
    slope = np.zeros_like(soft)
    slope[1:-1, 1:-1] = lx * (soft[1:-1, :-2] - soft[1:-1, 2:]) + ly * (soft[:-2, 1:-1] - soft[2:, 1:-1])
    shine = 0.86 + 0.18 * soft - slope * size / 64 * 1.2
    left, top = int((wx + 1) / 2 * size), int((wy + 1) / 4 * size) + size // 4
    scene = _background(background, size)[top : top + size, left : left + size]
    aside = (1, 0, lx * size / 14, 0, 1, ly * size / 14)  # the shadow falls away from the light
    fallen = blurred.transform(blurred.size, Image.Transform.AFFINE, aside)
    shadow = 1 - 0.42 / 255 * (1 - 0.3 * power) * np.asarray(fallen, dtype=np.float32)
    cover = 1 - posed[..., 3:] / 255
    photo = scene * shadow[..., None] * cover + posed[..., :3] * shine[..., None]
    gloss = MATERIALS[look.material]
    if gloss:
        photo += (255 * gloss) * np.clip(-slope * size / 64 * 5 - 0.25, 0, 1)[..., None] * (1 - cover)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    field = 1 + 0.16 * exposure + 0.12 * power * (lx * axis[None, :] + ly * axis[:, None])
    tint = np.array([1 + 0.06 * warmth, 1, 1 - 0.06 * warmth], dtype=np.float32)
    return np.clip(photo * (field[..., None] * tint), 0, 255).astype(np.uint8)


def _homography(turn, zoom, squeeze, shear, dx, dy, px, py) -> np.ndarray:
    """From the photo's plane to the product's, both in [-1, 1]: f64[3, 3]. Angles in radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    stretch = np.array([[zoom * (1 + squeeze), shear, 0], [0, zoom * (1 - squeeze), 0], [0, 0, 1]])
    move = np.array([[1, 0, -0.16 * dx], [0, 1, -0.16 * dy], [px, py, 1]])
    return stretch @ rotate @ move
