"""Watermarks and logos over a photo: from a shop's own folder, or drawn."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image, ImageDraw, ImageFont

from ssljax.data.paths import find
from ssljax.types import UserError
from ssljax.views.disturbances.disturbance import Disturbance, Take, change
from ssljax.views.resample import line_weights, resample

SIDE = 128  # of the square that holds a mark, in pixels
TURN = 30  # degrees, of the marks of a tiling
ONCE = 4.0  # the period of a mark that is not tiled, in sides of the image
GAPS = (0.1, 0.8)  # between the marks of a tiling, in widths and heights of the mark


class Marks(NamedTuple):
    """Marks, squashed to squares: first each upright, then each turned by TURN."""

    pixels: np.ndarray  # u8[2 N, 4, S, S]: red, green and blue multiplied by the last, which is how opaque it is
    aspect: np.ndarray  # f32[2 N], width / height before that

    def at_least(self, side: float) -> "Marks":
        """Halves the squares while they keep at least `side` pixels: smaller squares are less work."""
        pixels = self.pixels
        while pixels.shape[2] >= 2 * side and pixels.shape[2] % 2 == 0:
            sums = pixels.astype(np.uint16).reshape(*pixels.shape[:2], pixels.shape[2] // 2, 2, -1, 2).sum((3, 5))
            pixels = ((sums + 2) // 4).astype(np.uint8)
        return Marks(pixels, self.aspect)


@dataclasses.dataclass(frozen=True)
class Watermark(Disturbance):
    """Puts a mark from a pool somewhere on the image, or tiles it all over, slanted.

    The pool is compiled into the step, at 128 KiB a mark: a few hundred marks are plenty.
    """

    pool: str | None = None
    """A folder of PNG or WebP files with transparency; a relative path is looked up from here, then under SSLJAX_DATA.
    None for drawn words, badges and ribbons."""
    opacity: tuple[float, float] = (0.2, 1.0)
    """Of the mark: the least, and the largest at strength 1; half of it if tiled."""
    scale: tuple[float, float] = (0.15, 0.7)
    """Longer side of the mark, as a share of the image's shorter one: the least, and the largest at strength 1; half of
    it if tiled."""
    tiled: float = 0.25
    """Probability that the mark is tiled."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("opacity", "scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise UserError(f"Watermark.{name}=({low}, {high}): choose two shares up to 1.0, the smaller first")
        if not 0 <= self.tiled <= 1:
            raise UserError(f"Watermark.tiled={self.tiled} is not a probability: choose from 0 to 1")

    def disturb(self, rng: Array, images: Array, strength: Array) -> Array:
        """As `Disturbance.disturb`; raises UserError if the pool cannot be used."""
        marks = _drawn() if self.pool is None else _read(find(self.pool, "Watermark.pool"))
        batch, _, height, width = images.shape
        marks = marks.at_least(self.scale[1] * min(height, width))
        side = marks.pixels.shape[2]
        mark_rng, tiled_rng, amount_rng, place_rng, gap_rng = jax.random.split(rng, 5)
        tiled = jax.random.bernoulli(tiled_rng, self.tiled, (batch,))
        count = len(marks.aspect) // 2
        mark = jax.random.randint(mark_rng, (batch,), 0, count) + jnp.where(tiled, count, 0)

        opacity_amount, scale_amount = jax.random.uniform(amount_rng, (2, batch), minval=0.5)
        least, most = self.opacity
        opacity = (least + (most - least) * strength * opacity_amount) * jnp.where(tiled, 0.5, 1)
        least, most = self.scale
        longer = (least + (most - least) * strength * scale_amount) * jnp.where(tiled, 0.5, 1) * min(height, width)

        aspect = jnp.asarray(marks.aspect)[mark]
        gaps = 1 + jax.random.uniform(gap_rng, (2, batch), minval=GAPS[0], maxval=GAPS[1])
        places = jax.random.uniform(place_rng, (2, batch))
        tall, wide = longer * jnp.minimum(1, 1 / aspect), longer * jnp.minimum(1, aspect)
        period = jnp.where(tiled, gaps[0] * tall, ONCE * height), jnp.where(tiled, gaps[1] * wide, ONCE * width)

        def marked(take: Take) -> Array:
            rows = _line(take(places[0]), take(tall), take(period[0]), height, side)
            columns = _line(take(places[1]), take(wide), take(period[1]), width, side)
            pixels = jnp.asarray(marks.pixels)[take(mark)].astype(jnp.float32) / 255
            laid = take(opacity)[:, None, None, None] * resample(pixels, rows, columns)
            return jnp.clip(take(images) * (1 - laid[:, 3:]) + laid[:, :3], 0, 1)

        return change(images, strength > 0, marked)


def _line(place: Array, extent: Array, period: Array, size: int, side: int) -> Array:
    """The matrix f32[B, size, side] that lays a line of a mark over `extent` pixels, and again at every `period`.

    `place` f32[B] in [0, 1] is where between the line's beginning and its end; between the marks all is 0.
    """
    middle = extent / 2 + place * (size - extent)
    way = jnp.arange(size)[None] + 0.5 - middle[:, None]
    way = way - period[:, None] * jnp.round(way / period[:, None])  # from the middle of the nearest mark
    extent = extent[:, None]
    covered = jnp.clip((extent + 1) / 2 - jnp.abs(way), 0, jnp.minimum(1, extent))  # how much of each pixel
    return covered[:, :, None] * line_weights((0.5 + way / extent) * side, side / extent[:, 0], side)


@functools.cache
def _read(folder: Path) -> Marks:
    """The marks in a folder; raises UserError if there are none or one cannot be a mark."""
    field = f"Watermark.pool={str(folder)!r}"
    if not folder.is_dir():
        raise UserError(f"{field} is a file: name the folder that holds the marks")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise UserError(f"{field} holds no file: put PNG or WebP files with transparency there")
    pictures = []
    for path in paths:
        try:
            with Image.open(path, formats=("PNG", "WEBP")) as image:
                transparent, picture = image.has_transparency_data, image.convert("RGBA")
        except Exception as error:  # on broken files Pillow's readers raise whatever they stumble over
            raise UserError(f"{field}: {path.name} cannot be read as PNG or WebP ({error}): remove it") from None
        if not transparent:
            raise UserError(f"{field}: {path.name} has no alpha channel: save it with transparency, or remove it")
        if picture.getchannel("A").getextrema()[1] == 0:
            raise UserError(f"{field}: {path.name} is transparent all over: remove it")
        pictures.append(picture)
    return _marks(pictures)


def _marks(pictures: Sequence[Image.Image]) -> Marks:
    pictures = [_trimmed(picture) for picture in pictures]
    pictures += [_trimmed(picture.rotate(TURN, Image.Resampling.BICUBIC, expand=True)) for picture in pictures]
    squares = [p.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.BILINEAR) for p in pictures]
    pixels = np.stack([np.asarray(square).transpose(2, 0, 1) for square in squares])
    return Marks(pixels, np.array([p.width / p.height for p in pictures], np.float32))


def _trimmed(picture: Image.Image) -> Image.Image:
    return picture.crop(picture.getchannel("A").getbbox())


WORDS = (
    *("SALE", "NEW", "Free shipping", "ORIGINAL", "100% authentic", "Best price", "www.shop.example"),
    *("MY STORE", "SOLD OUT", "Official\nStore", "Summer\nsale", "-50%"),
)
INKS = (((255, 255, 255), (60, 60, 60)), ((20, 20, 20), (235, 235, 235)), ((215, 25, 30), (255, 255, 255)))
TURNS = (0, 0, 90, 20, -45)
BADGES = ("A1", "-30%", "TOP", "S&B", "24h", "No.1")
RIBBONS = ("SALE", "BEST SELLER", "2 for 1", "NEW IN", "Ships today", "OFFER")
PAINTS = ((215, 25, 30), (250, 175, 0), (20, 120, 60), (30, 70, 170), (110, 30, 120), (25, 25, 25))


@functools.cache
def _drawn() -> Marks:
    """The default marks, the same every time."""
    words = [
        _word(word, *INKS[k % len(INKS)]).rotate(TURNS[k % len(TURNS)], Image.Resampling.BICUBIC, expand=True)
        for k, word in enumerate(WORDS)
    ]
    badges = [_badge(word, paint) for word, paint in zip(BADGES, PAINTS, strict=True)]
    ribbons = [
        _ribbon(word, paint, end=30 * (k % 3 - 1)).rotate(45 * (k % 3 - 1), Image.Resampling.BICUBIC, expand=True)
        for k, (word, paint) in enumerate(zip(RIBBONS, PAINTS, strict=True))
    ]
    return _marks([*words, *badges, *ribbons])


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (width, height))
    return image, ImageDraw.Draw(image)


def _word(word: str, ink: tuple[int, ...], edge: tuple[int, ...]) -> Image.Image:
    """Letters with an outline, visible on any ground."""
    image, draw = _canvas(1200, 400)
    at, font = (600, 200), ImageFont.load_default(96)
    draw.multiline_text(at, word, ink, font, anchor="mm", align="center", stroke_width=5, stroke_fill=edge)
    return _trimmed(image)


def _badge(word: str, paint: tuple[int, ...]) -> Image.Image:
    image, draw = _canvas(512, 512)
    draw.ellipse((8, 8, 504, 504), paint)
    draw.ellipse((32, 32, 480, 480), outline="white", width=14)
    draw.text((256, 256), word, "white", ImageFont.load_default(450 // max(2, len(word))), anchor="mm")
    return image


def _ribbon(word: str, paint: tuple[int, ...], end: int) -> Image.Image:
    """A band whose ends are cut straight, inwards or outwards."""
    image, draw = _canvas(800, 160)
    draw.polygon([(40, 20), (760, 20), (760 + end, 80), (760, 140), (40, 140), (40 - end, 80)], paint)
    draw.text((400, 80), word, "white", ImageFont.load_default(76), anchor="mm")
    return image
