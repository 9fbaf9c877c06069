"""Splits of several sources as one: every photo once and at its place, and no item across two sources."""

import numpy as np
import pytest

from ssljax.data import Arrays, Concat, Part, ToyCatalogue
from ssljax.types import UserError

ONE, OTHER = ToyCatalogue(listings=16, photos=2, size=16), ToyCatalogue(listings=8, photos=3, size=16, seed=1)


def test_photos_are_at_their_places_and_items_keep_to_their_source():
    parts = (Part(ONE, "test", item="listing"), Part(OTHER, "train", item="listing"), Part(ONE, "val"))
    items = Concat(parts).load("test")
    loaded = [part.data.load(part.split) for part in parts]
    photos = [photo for part in loaded for photo in part.photos]
    assert len(items) == len(photos) == 4 + 18 + 4
    for row in range(len(items)):
        np.testing.assert_array_equal(items.photos[row], photos[row])
    own = [f"{source}/{value}" for source, part in enumerate(loaded[:2]) for value in part.columns["listing"]]
    assert list(items.columns["item"]) == own + [""] * 4
    assert list(items.columns["title"]) == [title for part in loaded for title in part.columns["title"]]
    np.testing.assert_array_equal(items.select(np.array([25, 4])).photos[1], photos[4])


def test_one_item_may_have_photos_in_two_splits_of_its_source():
    items = Concat((Part(ONE, "train", item="shape"), Part(ONE, "test", item="shape"))).load("test")
    train, test = (set(ONE.load(split).columns["shape"]) for split in ("train", "test"))
    assert len(set(items.columns["item"])) == len(train | test)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"there is no split 'train'"):
        Concat((Part(ONE, "test"),)).load("train")
    with pytest.raises(UserError, match=r"item='brand' is no column of split 'test': it has listing, title"):
        Concat((Part(ONE, "test", item="brand"),)).load("test")


def test_a_part_without_titles_has_blank_ones_and_is_shown_by_its_ids(tmp_path):
    np.savez(tmp_path / "photos.npz", image=np.zeros((3, 8, 8, 3), np.uint8), split=np.array(["test"] * 3))
    photos = Arrays(str(tmp_path / "photos.npz"))
    items = Concat((Part(ONE, "test", item="listing"), Part(photos, "test"))).load("test")
    assert list(items.columns["title"][-3:]) == [""] * 3 and all(items.columns["title"][:-3])
    assert items.caption(0) == items.columns["title"][0] and items.caption(len(items) - 1) == items.ids[-1]
    assert "title" not in Concat((Part(photos, "test"),)).load("test").columns
