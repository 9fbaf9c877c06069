"""Many photos in one page: each is kept once, 256 in a picture, and a page of 10,000 shows at once what is in view.

A picture is decoded when one of its photos comes into view: `.cases` in page.html.template leaves out what is not.
"""

import html
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ssljax.report.jpeg import jpeg

PIXELS = 96  # of a thumbnail's longer side; page.html.template's --cell is 2 more
COLUMNS = 16  # and as many lines: 256 photos; page.html.template's --sheet is 16 cells
GAP = 2  # between photos, so that none bleeds into its neighbour where the page scales them


class Thumbnails:
    """Photos by row: call it for the HTML of one, and `style` for that of all pictures, once no more are added."""

    def __init__(self, photo: Callable[[int], np.ndarray], captions: Sequence[str]):
        self._photo, self._captions = photo, captions
        self._places: dict[int, str] = {}
        self._pictures: list[str] = []
        self._picture: Image.Image | None = None

    def __call__(self, row: int) -> str:
        """The photo of a row, with its caption."""
        if row not in self._places:
            self._places[row] = self._add(row)
        return f"<i {self._places[row]} role=img title='{html.escape(self._captions[row])}'></i>"

    def style(self) -> str:
        """What `Thumbnails` of this page refer to."""
        self._close()
        rules = (f".t{number}{{background-image:url({data})}}" for number, data in enumerate(self._pictures))
        return f"<style>{''.join(rules)}</style>" if self._pictures else ""

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
        return f"class='t t{number}' style='--x:{column};--y:{line};--w:{image.width};--h:{image.height}'"

    def _close(self) -> None:
        if self._picture is None:
            return
        used = math.ceil(((len(self._places) - 1) % COLUMNS**2 + 1) / COLUMNS) * (PIXELS + GAP)
        self._pictures.append(jpeg(self._picture.crop((0, 0, self._picture.width, used))))
        self._picture = None
