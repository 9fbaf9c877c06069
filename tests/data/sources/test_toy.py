import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ssljax.data import ToyCatalogue
from ssljax.data.sources.toy import ATTRIBUTES, looks
from ssljax.types import UserError

SMALL = ToyCatalogue(listings=16, photos=3, size=32)


def test_photos_and_fields():
    items = SMALL.load("train")
    assert len(items) == 12 * 3
    photo = items.photos[4]
    assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8
    assert (np.bincount(items.listing) == 3).all()
    assert items.attributes.shape == (36, len(ATTRIBUTES)) and items.attribute_names == ATTRIBUTES
    np.testing.assert_array_equal(items.label, items.attributes[:, 0])
    assert set(items.columns) == {"listing", "title", *ATTRIBUTES, "split", "background"}


def test_splits_share_no_listing_and_agree_on_numbers():
    splits = [SMALL.load(split) for split in ("train", "val", "test")]
    assert sorted(int(k) for items in splits for k in set(items.listing)) == list(range(16))
    assert len({items.attribute_values for items in splits}) == 1


def test_each_photo_is_drawn_from_its_own_numbers_in_any_process():
    items = SMALL.load("test")
    code = (
        "import hashlib; from ssljax.data import ToyCatalogue\n"
        "photos = ToyCatalogue(listings=16, photos=3, size=32).load('test').photos\n"
        "print(hashlib.sha256(photos[5].tobytes() + photos[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert there == hashlib.sha256(items.photos[5].tobytes() + items.photos[0].tobytes()).hexdigest()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(items)).photos[1], items.photos[1])


def test_a_larger_shop_has_the_same_first_products():
    small, large = SMALL.load("train"), ToyCatalogue(listings=40, photos=5, size=32).load("train")
    row = list(large.ids).index(small.ids[4])
    np.testing.assert_array_equal(large.photos[row], small.photos[4])
    assert large.columns["background"][row] == small.columns["background"][4]


def test_another_seed_is_another_shop():
    a, b = SMALL.load("test").photos[0], ToyCatalogue(16, 3, 32, seed=1).load("test").photos[0]
    assert (a != b).mean() > 0.5


def test_no_two_listings_are_alike_and_titles_tell_the_truth():
    products = looks(600, 0)
    assert len({(p.shape, p.pattern, p.colour_name, p.logo) for p in products}) == 600
    items = ToyCatalogue(listings=100, photos=1).load("train")
    for title, colour, shape, logo in zip(
        *(items.columns[n] for n in ("title", "colour", "shape", "logo")), strict=True
    ):
        assert title.lower().startswith(colour) and shape in title
        assert "logo" not in title or logo in title
    assert (items.attributes[:, 1:] == -1).any() and (items.attributes[:, 0] >= 0).all()


def test_the_first_photo_is_in_the_studio():
    items = SMALL.load("train")
    first = np.array([i.endswith("-0") for i in items.ids])
    assert set(items.columns["background"][first]) == {"studio"}
    assert len(set(items.columns["background"][~first])) > 3


def test_pixels_alone_find_some_listings_and_far_from_all():
    items = ToyCatalogue().load("test")
    items = items.select(items.listing < items.listing.min() + 60)
    pixels = [np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BOX)).ravel() for p in items.photos]
    x = np.array(pixels, dtype=np.float32)
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -1)
    assert 0.1 < (items.listing[similarity.argmax(axis=1)] == items.listing).mean() < 0.5


@pytest.mark.parametrize(
    "fields",
    [{"listings": 0}, {"photos": 0}, {"size": 8}, {"listings": 10**6}, {"shares": (0.5, 0.2, 0.2)},
     {"listings": 2, "shares": (1, 0, 0)}, {"seed": -1}, {"seed": 0.5}, {"shares": (float("nan"), 0.5, 0.5)},
     {"shares": (1.5, -0.5, 0.0)}, {"photos": "4"}],
)  # fmt: skip
def test_wrong_fields_are_one_sentence(fields):
    with pytest.raises(UserError, match="data"):
        ToyCatalogue(**fields).load("test")
