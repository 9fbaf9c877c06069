"""Grocery: phone photos of 81 products in shops, and a studio photo of each."""

import csv
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from ssljax.data.columns import encode, text
from ssljax.data.items import Items, Paths
from ssljax.data.paths import find
from ssljax.data.text import readable
from ssljax.types import UserError, check_fields

PHOTOS_OF_A_LISTING = 3


@dataclasses.dataclass(frozen=True)
class Grocery:
    """The "Hierarchical Grocery Store Image Dataset" (Klasson et al. 2019, WACV), as it is published.

    Its splits are train, val, test, and "iconic", the studio photos. Listings are not published: three consecutive
    photos of a product (files 1 to 3, 4 to 6, ...) are taken for one, as they show one shelf from different angles.
    """

    path: str = "grocery"
    """the folder with train.txt and classes.csv; a relative path is looked up from here, then under SSLJAX_DATA"""
    title: Literal["english", "swedish"] | None = None
    """the language of the products' descriptions, which become the titles of their photos; None: there are no titles.
    Only packaged products have one in Swedish; the others' titles are blank"""

    def __post_init__(self):
        check_fields(self, "data")

    def load(self, split: str) -> Items:
        """The photos of a split; the label is the product. Raises UserError as Source does."""
        root = find(self.path)
        try:
            with open(root / "classes.csv", newline="", encoding="utf-8") as file:
                classes = list(csv.DictReader(file))
            names = {row["Class ID (int)"]: row["Class Name (str)"] for row in classes}
            coarse = {row["Class ID (int)"]: row["Coarse Class Name (str)"] for row in classes}
            if split == "iconic":
                photos = [(row["Iconic Image Path (str)"].lstrip("/"), row["Class ID (int)"]) for row in classes]
            else:
                lines = (root / f"{split}.txt").read_text(encoding="utf-8").splitlines()
                photos = [tuple(line.replace(" ", "").split(",")[:2]) for line in lines if line.strip()]
            paths, codes = map(list, zip(*photos, strict=True))
            products = text(names[code] for code in codes)
            titles = self._descriptions(root, classes) if self.title else {}
        except FileNotFoundError as error:
            raise UserError(
                f"data.path={self.path!r}: split {split!r} needs {error.filename}; there are train, val, test and "
                "iconic (the data is at github.com/marcusklasson/GroceryStoreDataset)"
            ) from None
        except (KeyError, ValueError, OSError) as error:
            raise UserError(
                f"data.path={self.path!r} is not the Grocery Store data set as published "
                f"({type(error).__name__}: {error})"
            ) from None
        numbers = [int("".join(filter(str.isdigit, path.rpartition("_")[2])) or 1) for path in paths]
        listing = text(
            f"{product} {(number - 1) // PHOTOS_OF_A_LISTING}"
            for product, number in zip(products, numbers, strict=True)
        )
        label = np.array([int(code) for code in codes], np.int32)
        columns = {"product": products, "category": text(coarse[code] for code in codes), "listing": listing}
        if titles:
            columns["title"] = text(titles[code] for code in codes)
        return Items(
            ids=text(paths),
            photos=Paths(root, text(paths)),
            columns=columns,
            label=label,
            listing=encode(listing)[0],
            label_names=tuple(names[str(code)] for code in range(len(names))),
        )

    def _descriptions(self, root: Path, classes: list[dict[str, str]]) -> dict[str, str]:
        """The description of each product by its number, on one line; blank if there is none in the language."""
        found = {}
        for row in classes:
            file = root / row["Product Description Path (str)"].lstrip("/")
            if self.title == "swedish":
                file = file.with_name(f"{file.stem}_Swedish.txt")
            told = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
            found[row["Class ID (int)"]] = " ".join(readable(told).split())
        return found
