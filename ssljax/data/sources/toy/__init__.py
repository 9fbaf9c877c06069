"""ToyCatalogue: a drawn catalogue for the quickstart and the tests, with nothing to download."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from ssljax.data.columns import encode_attributes, text
from ssljax.data.items import SPLITS, Items, Shares, check_shares, split_rows
from ssljax.data.sources.toy.drawing import Look, render
from ssljax.data.sources.toy.tables import BACKGROUNDS, COLOURS, LOGOS, MATERIALS, PATTERNS, SHAPES
from ssljax.types import UserError, check_fields

ATTRIBUTES = ("shape", "pattern", "colour", "logo", "material")


@dataclasses.dataclass(frozen=True)
class ToyCatalogue:
    """Products of various shapes, patterns, colours and logos, with several photos each: in different poses, on
    different backgrounds, under different lights. No two listings have the same shape, pattern, colour and logo.

    The label is the shape. The attributes (shape, pattern, colour, logo, material) are blank here and there, as in a
    shop. The same fields give the same photos in any process; photos are drawn when they are read.
    """

    listings: int = 1000
    """how many products"""
    photos: int = 4
    """how many photos of each"""
    size: int = 64
    """height and width of the photos, in pixels"""
    seed: int = 0
    """another seed is another shop"""
    shares: Shares = (0.75, 0.125, 0.125)
    """the shares of listings in train, val and test"""

    def __post_init__(self):
        check_fields(self, "data", listings=1, photos=1, size=16, seed=0)
        check_shares(self.shares)

    def load(self, split: str) -> Items:
        """The photos of a split, drawn when read; raises UserError as Source does."""
        listing = np.repeat(np.arange(self.listings), self.photos)
        number = np.tile(np.arange(self.photos), self.listings)
        photos = ToyPhotos(self.seed, self.size, looks(self.listings, self.seed), listing, number)
        columns = {name: values[listing] for name, values in self._columns(photos.looks).items()}
        columns["background"] = text(map(photos.background, range(len(listing))))
        attributes, values = encode_attributes(columns[name] for name in ATTRIBUTES)
        assert attributes is not None
        items = Items(
            ids=text(f"{row:04d}-{n}" for row, n in zip(listing, number, strict=True)),
            photos=photos,
            columns=columns,
            label=attributes[:, 0],
            listing=listing.astype(np.int32),
            attributes=attributes,
            label_names=values[0],
            attribute_names=ATTRIBUTES,
            attribute_values=values,
        )
        return items.select(split_rows(columns["split"], split))

    def _columns(self, products: list[Look]) -> dict[str, np.ndarray]:
        """What the shop writes about each listing, object[listings] of str."""
        ends = np.round(np.cumsum(self.shares)[:2] * self.listings)
        splits = text(SPLITS[k] for k in np.searchsorted(ends, np.arange(self.listings), side="right"))
        rng = _rng(self.seed, 0)
        kept = rng.random((self.listings, 4)) > 0.08  # a shop does not fill in everything
        terse = rng.random(self.listings) < 0.25
        rows = []
        for look, keep, short in zip(products, kept, terse, strict=True):
            values = (look.pattern, look.colour_name, look.logo or "none", look.material)
            rows.append((_title(look, short), look.shape, *(v if k else "" for v, k in zip(values, keep, strict=True))))
        columns = dict(zip(("title", *ATTRIBUTES), map(text, zip(*rows, strict=True)), strict=True))
        return {"listing": text(map(str, range(self.listings)))} | columns | {"split": splits}


class ToyPhotos(Sequence):
    """The photos of a toy catalogue, u8[size, size, 3], each drawn from (seed, listing, number of the photo) alone."""

    def __init__(self, seed: int, size: int, looks: list[Look], listing: np.ndarray, number: np.ndarray):
        self.seed, self.size, self.looks, self.listing, self.number = seed, size, looks, listing, number

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, row: int) -> np.ndarray:
        rng = _rng(self.seed, 2, self.listing[row], self.number[row])
        return render(self.looks[self.listing[row]], self.background(row), self.size, rng)

    def background(self, row: int) -> str:
        """Where a photo was taken: the first of a product in the studio, as shops do, the others anywhere."""
        if self.number[row] == 0:
            return BACKGROUNDS[0]
        rng = _rng(self.seed, 1, self.listing[row], self.number[row])
        return BACKGROUNDS[int(rng.random() * len(BACKGROUNDS))]


@functools.lru_cache(maxsize=8)
def looks(listings: int, seed: int) -> list[Look]:
    """What each listing looks like: all combinations of shape, pattern, colour and logo, in an order set by `seed`."""
    names = [list(table) for table in (SHAPES, PATTERNS, COLOURS, LOGOS)]
    possible = math.prod(map(len, names))
    if listings > possible:
        raise UserError(f"data.listings={listings} is more than the {possible} products that can be told apart")
    rng = _rng(seed, 3)
    order = np.argsort(rng.random(possible), kind="stable")[:listings]
    chosen = np.stack(np.unravel_index(order, [len(n) for n in names]), axis=1)
    draws = rng.random((possible, 5))  # for all, so that a shop with more listings has the same first ones
    return [
        _look([n[k] for n, k in zip(names, row, strict=True)], draw) for row, draw in zip(chosen, draws, strict=False)
    ]


def _look(names: list[str], draw: np.ndarray) -> Look:
    """Adds what is drawn at random: the exact colour, an accent that stands out from it, and the material."""
    shape, pattern, colour, logo = names
    base = np.array(COLOURS[colour])
    others = [c for c in COLOURS.values() if abs(sum(c) - base.sum()) > 190 and np.abs(c - base).max() > 90]
    accent = others[int(draw[0] * len(others))]
    exact = np.clip(base + 24 * (draw[1:4] - 0.5), 0, 255).astype(int)
    material = list(MATERIALS)[int(draw[4] * len(MATERIALS))]
    return Look(shape, pattern, logo, material, colour, tuple(exact.tolist()), accent)


def _title(look: Look, terse: bool) -> str:
    """For example "Red striped mug with star logo"; a terse one leaves out the pattern and the logo."""
    pattern = "" if terse or look.pattern == "plain" else f" {look.pattern}"
    logo = "" if terse or not look.logo else f" with {look.logo} logo"
    return f"{look.colour_name.capitalize()}{pattern} {look.shape}{logo}"


def _rng(*key: int) -> np.random.Generator:
    # Philox by name, as numpy may change the generator that is its default
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([int(k) for k in key])))
