import numpy as np
import pytest

from ssljax.data.sources.arrays import Arrays
from ssljax.types import UserError

IMAGES = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
SPLITS = np.array(["train"] * 4 + ["test"] * 2)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return Arrays(str(tmp_path / "a.npz"))


def test_all_arrays_are_read(tmp_path):
    source = save(
        tmp_path, image=IMAGES, label=np.array([3, 3, -1, 10, 10, 3]), listing=np.array([7, 7, 8, 9, 1, 1]),
        id=np.array(list("abcdef")), split=SPLITS, title=np.array([b"x"] * 6), centre=np.zeros(3),
    )  # fmt: skip
    items = source.load("train")
    np.testing.assert_array_equal(items.photos[3], IMAGES[3])
    np.testing.assert_array_equal(items.label, [0, 0, -1, 1])
    assert items.label_names == ("3", "10") and list(items.ids) == list("abcd")
    np.testing.assert_array_equal(items.listing[1:] == items.listing[0], [True, False, False])
    assert items.columns["title"][0] == "x" and "centre" not in items.columns
    assert list(source.load("test").ids) == ["e", "f"]


def test_whole_numbers_may_be_floats_and_nan_is_missing(tmp_path):
    items = save(
        tmp_path, image=IMAGES, label=np.array([3.0, 3.0, np.nan, -1.0, 10.0, 10.0]), split=SPLITS,
        price=np.array([0.5, np.nan, 1.0, 2.0, 2.0, 2.0]),
    ).load("train")  # fmt: skip
    np.testing.assert_array_equal(items.label, [0, 0, -1, -1])
    assert items.label_names == ("3", "10") and list(items.columns["price"]) == ["0.5", "", "1.0", "2.0"]


def test_ids_and_other_values_are_text_as_they_are_meant(tmp_path):
    items = save(
        tmp_path, image=IMAGES, id=np.array([1001.0, 1002.0, -1.0, 0.0, 1e20, 5.0]), split=SPLITS,
        title=np.array([b"caf\xe9", b"x", b"", b"-1", b"y", b"z"]), price=np.array([-1, 2, 3, 4, 5, 6]),
        since=np.array(["2024-01-02", "NaT"] * 3, "datetime64[D]"), ok=np.array([True] * 6),
        kind=np.array(["a\ud83d"] * 6),
    )  # fmt: skip
    columns = {name: list(values) for name, values in items.load("train").columns.items()}
    assert list(items.load("train").ids) == ["1001", "1002", "-1", "0"]
    assert list(items.load("test").ids) == ["100000000000000000000", "5"]
    assert columns["title"] == ["caf\ufffd", "x", "", "-1"] and columns["price"] == ["-1", "2", "3", "4"]
    assert columns["since"][:2] == ["2024-01-02", ""] and columns["ok"][0] == "True" and columns["kind"][0] == "a\ufffd"


def test_only_images_and_grey_ones(tmp_path):
    source = save(tmp_path, image=np.repeat(IMAGES[..., 0], 10, axis=0))
    parts = [source.load(split) for split in ("train", "val", "test")]
    assert sorted(int(i) for items in parts for i in items.ids) == list(range(60))
    photo = parts[0].photos[0]
    assert photo.shape == (4, 5, 3) and (photo == photo[..., :1]).all()
    assert parts[0].label is None and parts[0].listing is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "no array is called 'image': did you mean 'images'"),
        ({"image": IMAGES.astype(np.float32)}, "image is float32; it must be uint8"),
        ({"image": IMAGES[..., :2]}, r"image has shape \(6, 4, 5, 2\)"),
        ({"image": np.full(IMAGES.shape, np.nan)}, "image is float64; it must be uint8"),
        ({"image": IMAGES, "label": np.array([0, 0, 0.5, 1, 1, 1])}, "label holds 0.5; it must be whole numbers"),
        ({"image": IMAGES, "listing": np.array([0, 0, np.inf, 1, 1, 1])}, "listing holds inf; it must be whole"),
        ({"image": IMAGES, "label": np.zeros(5, int)}, r"label has shape \(5,\); it must be \(6,\)"),
        ({"image": IMAGES, "label": np.arange(6)}, "data.label='label' never repeats"),
        ({"image": IMAGES, "id": np.zeros(6)}, "ids come more than once"),
        ({"image": IMAGES, "split": np.array(["test"] * 6)}, r"'train' is empty; there are test \(6\)"),
        ({"image": np.array([None])}, "is not an .npz file of plain arrays"),
    ],
)
def test_wrong_arrays_are_one_sentence(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        save(tmp_path, **arrays).load("train")


def test_not_an_npz(tmp_path):
    for content in (b"", b"hello", b"PK\x03\x04 cut"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"is not an \.npz file"):
            Arrays(str(tmp_path / "a.npz")).load("train")
    np.save(tmp_path / "b.npy", IMAGES)
    with pytest.raises(UserError, match=r"is not an \.npz file"):
        Arrays(str(tmp_path / "b.npy")).load("train")
