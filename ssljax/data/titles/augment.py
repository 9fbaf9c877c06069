"""TitleAugmentation: titles as other shops might write them, with words dropped, swapped and misspelt, and with other
units and sizes.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from ssljax.types import UserError, check_fields

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# For each dimension, how a unit is written → how many of the smallest it is. Spellings of one unit follow each other.
UNITS: tuple[dict[str, int], ...] = (
    {"ml": 1, "cl": 10, "dl": 100, "l": 1000, "L": 1000, "litre": 1000, "liter": 1000},
    {"mg": 1, "g": 1000, "gram": 1000, "kg": 10**6, "kilo": 10**6},
    {"mm": 1, "cm": 10, "m": 1000},
    {"oz": 1, "lb": 16},
    {"inch": 1, '"': 1},
    {"GB": 1, "TB": 1000},
    {"W": 1, "watt": 1, "kW": 1000},
)
DIMENSIONS = {unit: dimension for dimension in UNITS for unit in dimension}
SPELLINGS = {
    "litres": "litre",
    "liters": "liter",
    "gr": "g",
    "grams": "gram",
    "inches": "inch",
    "lbs": "lb",
    "watts": "watt",
}
SIZES = (
    ("XS", "extra small"),
    ("S", "small"),
    ("M", "medium"),
    ("L", "large"),
    ("XL", "extra large"),
    ("XXL", "2XL"),
    ("XXXL", "3XL"),
)
SAME_SIZE = {writing.lower(): names for names in SIZES for writing in names}
COUNTS = ("{}x", "{} pcs", "{} pieces", "pack of {}")
COUNT = re.compile(
    r"(?<![\w.,])(?:pack of (\d{1,4})|(\d{1,4}) ?[x\u00d7](?! ?\d)|(\d{1,4}) ?(?:pcs|pc|pieces))(?!\w)", re.IGNORECASE
)
# One or two digits after a comma or a point: of "1,000 g" nobody knows what it is.
QUANTITY = re.compile(r"(?<![\d.,])(?<![a-wyzA-WYZ])(\d{1,5}(?:[.,]\d{1,2})?) ?([a-zA-Z]{1,6}|\")(?!\w)")
SIZE = re.compile(
    r"(?<![\w'\u2019.,-])(?<!\d )(?:(?:extra )?(?:small|large)|medium|[23]XL|X{1,3}L|XS|[SML])(?![\w'\u2019.-])",
    re.IGNORECASE,
)
SMALLEST, LARGEST, DECIMALS = 0.05, 9999, 3  # of a number that is written


@dataclasses.dataclass(frozen=True)
class TitleAugmentation:
    """Changes titles at random; by default nothing. A title that has a word keeps one.

    `TitleAugmentation(drop=0.1, swap=0.1, misspell=0.1, rewrite_units=0.3)`

    Changes come in the order of the fields, from the last to the first, so that a unit is rewritten before it can be
    misspelt.
    """

    drop: float = 0.0
    """The probability that a word is left out."""
    swap: float = 0.0
    """The probability that a word changes places with the next one."""
    misspell: float = 0.0
    """The probability that a word gets one typing error: two letters swapped, or one left out, doubled or
    replaced."""
    rewrite_units: float = 0.0
    """The probability that a quantity or a size is written in another way: "500 ml" as "0.5 l" or "500ml", "XL" as
    "extra large", "2x" as "2 pcs"."""

    def __post_init__(self):
        check_fields(self, "titles.augmentation")
        for field in dataclasses.fields(self):
            if not 0 <= (value := getattr(self, field.name)) <= 1:
                raise UserError(
                    f"titles.augmentation.{field.name}={value} is not a probability: it must be between 0 and 1"
                )

    def __call__(self, titles: Sequence[str], rng: np.random.Generator) -> list[str]:
        """The titles changed, as many and in the same order; the same for the same titles and state of `rng`."""
        if not (self.drop or self.swap or self.misspell or self.rewrite_units):
            return list(titles)
        return [self._changed(title, rng) for title in titles]

    def _changed(self, title: str, rng: np.random.Generator) -> str:
        if self.rewrite_units:
            title = rewrite_units(title, self.rewrite_units, rng)
        words = title.split()
        if not words:
            return title
        if self.misspell:
            words = [
                misspelt(w, rng) if r < self.misspell else w for w, r in zip(words, rng.random(len(words)), strict=True)
            ]
        if self.swap:
            for k in np.flatnonzero(rng.random(len(words) - 1) < self.swap).tolist():
                words[k], words[k + 1] = words[k + 1], words[k]
        return " ".join(dropped(words, self.drop, rng) if self.drop else words)


def dropped(words: Sequence[str], probability: float, rng: np.random.Generator) -> list[str]:
    """The words without those that fall out; one of them, at random, where all would."""
    kept = np.flatnonzero(rng.random(len(words)) >= probability).tolist() or rng.integers(len(words), size=1).tolist()
    return [words[k] for k in kept]


def misspelt(word: str, rng: np.random.Generator) -> str:
    """The word with one typing error, at a random place: two neighbouring letters swapped, or one left out, doubled or
    replaced by a small one. A word of one letter can only be doubled or replaced; no word becomes blank."""
    kind, place = rng.integers(4), int(rng.integers(len(word)))
    if len(word) == 1:
        kind = 2 + kind % 2
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0:
        place = min(place, len(word) - 2)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return before + after
    if kind == 2:
        return before + letter + letter + after
    others = [other for other in LETTERS if other != letter.lower()]
    return before + others[rng.integers(len(others))] + after


def rewrite_units(title: str, probability: float, rng: np.random.Generator) -> str:
    """The title with quantities, counts and sizes written otherwise, each with this probability; they stay equal."""

    def by(others: Callable[[re.Match[str]], list[str]]) -> Callable[[re.Match[str]], str]:
        def rewritten(found: re.Match[str]) -> str:
            if rng.random() >= probability:
                return found[0]
            writings = [writing for writing in others(found) if writing.lower() != found[0].lower()]
            return writings[rng.integers(len(writings))] if writings else found[0]

        return rewritten

    for pattern, others in ((COUNT, _counts), (SIZE, _sizes), (QUANTITY, _quantities)):
        title = pattern.sub(by(others), title)
    return title


def _counts(found: re.Match[str]) -> list[str]:
    number = next(filter(None, found.groups()))
    return [writing.format(number) for writing in COUNTS]


def _sizes(found: re.Match[str]) -> list[str]:
    if found[0] in ("s", "m", "l"):  # of a name, or a unit
        return []
    return list(SAME_SIZE.get(found[0].lower(), ()))


def _quantities(found: re.Match[str]) -> list[str]:
    """Every other way to write a quantity, with the numbers that people would write; none if it is not one."""
    number, unit = Fraction(found[1].replace(",", ".")), SPELLINGS.get(found[2].lower(), found[2])
    if unit not in DIMENSIONS and len(unit) > 1:  # not "G" or "M", which mean something else
        unit = next((known for known in DIMENSIONS if known.lower() == unit.lower()), unit)
    writings = []
    for other, size in DIMENSIONS.get(unit, {}).items():
        value = number * DIMENSIONS[unit][unit] / size
        if SMALLEST <= value <= LARGEST and (value * 10**DECIMALS).denominator == 1:
            text = f"{float(value):.{DECIMALS}f}".rstrip("0").rstrip(".")
            writings += [f"{text}{other}"] if other == '"' else [f"{text} {other}", f"{text}{other}"]
    return writings
