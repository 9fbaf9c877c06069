"""Photos inside a page: alone, or as thumbnails of which a page can show 10,000."""

import base64
import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

THUMBNAIL = 112  # pixels of a photo's longer side: pages show it at 60 to 90, and screens are dense
PIXELS = 96  # of a small thumbnail's longer side; the style sheet's --cell is 2 more
COLUMNS = 16  # and as many lines: 256 photos; the style sheet's --sheet is 16 cells
GAP = 2  # between photos, so that none bleeds into its neighbour where the page scales them


def jpeg(pixels: np.ndarray | Image.Image, longest: int | None = None) -> str:
    """A photo u8[h, w, 3] as a data URI, shrunk to a longer side of `longest` pixels if that is given."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    if longest is not None:
        image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


class Thumbnails:
    """Photos by row, each kept once: call it for the HTML of one, and `style` for the pictures once all are there.

    A picture holds 256 photos. It is decoded when one of them comes into view: `.cases` of the style sheet leaves out
    what is not.
    """

    def __init__(self, photo: Callable[[int], np.ndarray], captions: Sequence[str]):
        self._photo, self._captions = photo, captions
        self._places: dict[int, str] = {}
        self._pictures: list[str] = []
        self._picture: Image.Image | None = None

    def __call__(self, row: int) -> Markup:
        """The photo of a row, with its caption."""
        if row not in self._places:
            self._places[row] = self._add(row)
        return Markup('<i {} role="img" title="{}"></i>').format(Markup(self._places[row]), self._captions[row])

    def style(self) -> Markup:
        """The style sheet that holds the pictures."""
        self._close()
        rules = (f".t{number}{{background-image:url({data})}}" for number, data in enumerate(self._pictures))
        return Markup(f"<style>{''.join(rules)}</style>" if self._pictures else "")

    def _add(self, row: int) -> str:
        number, place = divmod(len(self._places), COLUMNS**2)
        line, column = divmod(place, COLUMNS)
        side = PIXELS + GAP
        if self._picture is None:
            self._picture = Image.new("RGB", (COLUMNS * side, COLUMNS * side))
        image = Image.fromarray(np.asarray(self._photo(row)))
        image.thumbnail((PIXELS, PIXELS))
        self._picture.paste(image, (column * side, line * side))
        if place == COLUMNS**2 - 1:
            self._close()
        return f'class="t t{number}" style="--x:{column};--y:{line};--w:{image.width};--h:{image.height}"'

    def _close(self) -> None:
        if self._picture is None:
            return
        used = math.ceil(((len(self._places) - 1) % COLUMNS**2 + 1) / COLUMNS) * (PIXELS + GAP)
        self._pictures.append(jpeg(self._picture.crop((0, 0, self._picture.width, used))))
        self._picture = None
