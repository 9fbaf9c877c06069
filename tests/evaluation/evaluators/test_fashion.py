"""The baselines that are published with the Fashion protocol: the same three digits."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssljax.data.columns import text
from ssljax.evaluation import Embeddings, Retrieval, raw_pixels

pytestmark = pytest.mark.real_data("fashion")


@pytest.fixture(scope="module")
def fashion():
    """Columns, and pixels u8[n, 32, 32, 3], of the test split."""
    folder = Path(os.environ["SSLJAX_DATA"], "fashion")
    with open(folder / "styles.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    # decoded in full and then resized, as for the published figures; `decode` reads JPEGs at a smaller scale if it can
    photos = [Image.open(folder / "images" / f"{row['id']}.jpg").convert("RGB") for row in rows]
    pixels = np.stack([np.asarray(photo.resize((32, 32), Image.BILINEAR)) for photo in photos])
    return {name: text(row[name] for row in rows) for name in rows[0]}, pixels


def colour_histogram(pixels):
    """f32[n, 216]: square roots of the counts of 6 x 6 x 6 colours, less their mean."""
    red, green, blue = np.moveaxis(pixels.reshape(len(pixels), -1, 3).astype(int) * 6 // 256, -1, 0)
    colours = red * 36 + green * 6 + blue
    x = np.sqrt(np.stack([np.bincount(row, minlength=216) for row in colours])).astype(np.float32)
    return x - x.mean(axis=0)[None]


STYLE, ATTRIBUTES = "productDisplayName", ("gender", "articleType", "baseColour")


# the published MAP@R comes from a search 100 deep, so that R is min(R, 100); no style has more than that
@pytest.mark.parametrize(
    ("relevant", "vectors", "queries", "cmc", "capped_map", "full_map"),
    [
        (STYLE, raw_pixels, 2113, (0.383, 0.550, 0.624), 0.220, 0.220),
        (STYLE, colour_histogram, 2113, (0.241, 0.408, 0.490), 0.137, 0.137),
        (ATTRIBUTES, raw_pixels, 4610, (0.336, 0.575, 0.665), 0.124, 0.120),
        ("articleType", raw_pixels, 5045, (0.704, 0.880, 0.923), 0.305, 0.212),
    ],
)
def test_published_baselines(fashion, relevant, vectors, queries, cmc, capped_map, full_map):
    columns, pixels = fashion
    embeddings = Embeddings(columns["id"], vectors(pixels), columns)
    figures = Retrieval(relevant, caps=(100,))({"test": embeddings}.get)
    assert figures["test/queries"] == queries and figures["test/queries_left_out"] == len(pixels) - queries
    names = ("cmc@1", "cmc@5", "cmc@10", "map@min(r,100)", "map@r")
    # within one in the third digit: sums in another order rank a query or two otherwise
    assert [figures[f"test/{name}"] for name in names] == pytest.approx([*cmc, capped_map, full_map], abs=1e-3)
