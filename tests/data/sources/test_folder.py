import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from ssljax.data.decode import FORMATS, decode, suffixes
from ssljax.data.sources.folder import Folder
from ssljax.types import UserError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_folders_of_splits(tmp_path):
    path = touch(tmp_path, "train/cat/1.jpg", "train/dog/b.PNG", "train/cat/0.jpg", "train/dog/a.webp",
                 "test/dog/1.jpg", "train/cat/notes.txt", "train/cat/._1.jpg")  # fmt: skip
    items = Folder(path).load("train")
    assert list(items.ids) == ["train/cat/0.jpg", "train/cat/1.jpg", "train/dog/a.webp", "train/dog/b.PNG"]
    assert items.photos[0] == tmp_path / "train/cat/0.jpg"
    np.testing.assert_array_equal(items.label, [0, 0, 1, 1])
    test = Folder(path).load("test")
    np.testing.assert_array_equal(test.label, [1])
    assert test.label_names == ("cat", "dog") and list(test.columns["label"]) == ["dog"]
    with pytest.raises(UserError, match=r"split 'val' is empty; there are train \(4\), test \(1\)"):
        Folder(path).load("val")


def test_folders_of_classes_are_split_by_hash(tmp_path):
    names = [f"{kind}/{k}.jpg" for kind in ("cat", "dog/small", "dog/big") for k in range(20)]
    source = Folder(touch(tmp_path, *names), shares=(0.5, 0.25, 0.25))
    splits = [source.load(split) for split in ("train", "val", "test")]
    assert sorted(i for items in splits for i in items.ids) == sorted(names)
    assert splits[0].label_names == ("cat", "dog/big", "dog/small")


def test_photos_in_no_class_have_no_label(tmp_path):
    items = Folder(touch(tmp_path, "train/1.jpg", "train/2.jpg", "3.jpg")).load("train")
    assert items.label is None and len(items) == 2


def test_links_are_followed_but_never_in_circles(tmp_path):
    source = Folder(touch(tmp_path / "data", "train/cat/1.jpg", "train/dog/1.jpg", "train/dog/2.jpg"))
    touch(tmp_path / "other", "1.jpg", "2.jpg")
    (tmp_path / "data/train/owl").symlink_to(tmp_path / "other")
    (tmp_path / "data/train/bee").symlink_to(tmp_path / "other")
    (tmp_path / "data/train/cat/all").symlink_to(tmp_path / "data")
    (tmp_path / "other/back").symlink_to(tmp_path / "data/train")
    (tmp_path / "data/train/self").symlink_to(tmp_path / "data/train/self")
    ids = list(source.load("train").ids)
    assert len(ids) == len(set(ids)) and {"train/owl/1.jpg", "train/bee/2.jpg", "train/cat/1.jpg"} <= set(ids)
    assert max(name.count("/") for name in ids) <= 6


def test_wrong_folders_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        Folder(str(tmp_path / "no")).load("train")
    with pytest.raises(UserError, match="is a file"):
        Folder(touch(tmp_path, "a.jpg") + "/a.jpg").load("train")
    with pytest.raises(UserError, match="holds no image"):
        Folder(touch(tmp_path / "x", "a.txt")).load("train")
    with pytest.raises(UserError, match="never repeats"):
        Folder(touch(tmp_path / "y", "train/a/1.jpg", "train/b/1.jpg")).load("train")


def test_what_is_hidden_is_neither_a_class_nor_a_photo(tmp_path, caplog):
    hidden = (".ipynb_checkpoints/1.jpg", ".thumbnails/2.jpg", "__MACOSX/cat/._0.jpg", "cat/@eaDir/0.jpg",
              "cat/._0.jpg", "cat/.DS_Store", "cat/Thumbs.db", "desktop.ini", "cat/.hidden/0.jpg")  # fmt: skip
    items = Folder(touch(tmp_path, "cat/0.jpg", "cat/1.jpg", "dog/0.jpg", *hidden), shares=(1, 0, 0)).load("train")
    assert list(items.ids) == ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg"] and items.label_names == ("cat", "dog")
    assert "left out" not in caplog.text


def test_a_hidden_folder_itself_may_be_named(tmp_path):
    assert len(Folder(touch(tmp_path / ".cache/x", "a/0.jpg", "a/1.jpg"), shares=(1, 0, 0)).load("train")) == 2


def test_what_is_no_photo_that_can_be_read_is_said(tmp_path, caplog):
    others = ("a/0.heic", "a/1.HEIC", "a/2.jxl", "a/3.h5", "a/4.eps", "a/5.mpg", "a/6", "a/notes.txt")
    source = Folder(touch(tmp_path, "a/0.jpg", "a/1.jp2", *others), shares=(1, 0, 0))
    assert list(source.load("train").ids) == ["a/0.jpg", "a/1.jp2"]
    source.load("train")
    said = caplog.text
    assert said.count("left out") == 1 and "not in a format of photos that can be read: 2 .heic" in said
    assert all(f"1 {kind}" in said for kind in (".jxl", ".h5", ".eps", ".mpg", "without a suffix", ".txt"))
    with pytest.raises(UserError, match=r"holds no image that can be read, only files ending in \.heic"):
        Folder(touch(tmp_path / "b", "a/0.heic")).load("train")


def test_photos_by_their_suffix_are_those_that_the_decoder_reads():
    assert suffixes() >= {".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2"}
    assert not suffixes() & {".heic", ".jxl", ".h5", ".hdf", ".eps", ".ps", ".mpg", ".pdf", ".psd", ".svg", ".ico"}
    for suffix in suffixes():
        assert Image.registered_extensions()[suffix] in FORMATS


def test_a_class_called_train_is_a_class_where_others_are_beside_it(tmp_path, caplog):
    vehicles = [f"{kind}/{k}.jpg" for kind in ("bus", "car", "train") for k in range(9)]
    source = Folder(touch(tmp_path, *vehicles))
    assert sorted(i for split in ("train", "val", "test") for i in source.load(split).ids) == sorted(vehicles)
    assert source.load("train").label_names == ("bus", "car", "train") and source.split_names() == ()
    assert "train is taken for a class" in caplog.text
    items = dataclasses.replace(source, splits=True).load("train")
    assert len(items) == 9 and items.label is None
    splits = Folder(touch(tmp_path / "s", "train/a/0.jpg", "train/a/1.jpg", "test/a/0.jpg", "extra/0.jpg"))
    assert splits.load("train").label_names == ("a",) and splits.split_names() == ("train", "test")
    assert "extra are none of train, val and test" in caplog.text
    alone = Folder(touch(tmp_path / "t", "train/a/0.jpg", "train/a/1.jpg", "unlabelled/0.jpg"))
    assert alone.load("train").label_names == ("a",) and alone.split_names() == ("train",)
    assert dataclasses.replace(splits, splits=False, shares=(1, 0, 0)).load("train").label_names[0] == "extra"
    with pytest.raises(UserError, match=r"data\.splits=True, but no folder"):
        Folder(touch(tmp_path / "n", "a/0.jpg", "a/1.jpg"), splits=True).load("train")


def test_names_that_are_no_text_are_shown_and_opened(tmp_path):
    folder = os.fsencode(touch(tmp_path, "a/0.jpg"))
    for name in (b"a/caf\xe9.jpg", b"a/caf\xe8.jpg", b"\xff/0.jpg", b"\xff/1.jpg"):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        Image.new("RGB", (4, 4)).save(os.fsdecode(os.path.join(folder, name)))
    items = Folder(str(tmp_path), shares=(1, 0, 0)).load("train")
    assert list(items.ids) == ["a/0.jpg", "a/caf\\xe8.jpg", "a/caf\\xe9.jpg", "\\xff/0.jpg", "\\xff/1.jpg"]
    assert items.label_names == ("\\xff", "a")
    for row in range(1, 5):
        decode(items.photos[row], 4)
    assert os.fsencode(items.photos[2]).endswith(b"caf\xe9.jpg")


def test_two_forms_of_a_name_are_one_class_and_two_photos(tmp_path):
    names = [
        f"{split}/{form}/{k}.jpg" for split, form in (("train", "Caf\u00e9"), ("test", "Cafe\u0301")) for k in range(2)
    ]
    touch(tmp_path, *names)
    for split in ("train", "test"):
        assert Folder(str(tmp_path)).load(split).label_names == ("Caf\u00e9",)
    both = Folder(touch(tmp_path / "b", "Caf\u00e9/0.jpg", "Cafe\u0301/0.jpg"), shares=(1, 0, 0)).load("train")
    assert len(set(both.ids)) == 2 and list(both.label) == [0, 0]
    assert all(photo.exists() for photo in both.photos)


@pytest.mark.real_data("cifar10")
def test_cifar10():
    items = Folder("cifar10").load("test")
    assert len(items) == 10000 and len(items.label_names) == 10 and (np.bincount(items.label) == 1000).all()


def test_usual_names_of_splits(tmp_path):
    path = touch(tmp_path, "Train/cat/1.jpg", "Train/dog/2.jpg", "validation/cat/3.jpg", "Testing/dog/4.jpg")
    source = Folder(path)
    assert source.split_names() == ("train", "val", "test")
    assert [list(source.load(split).ids) for split in ("val", "test")] == [
        ["validation/cat/3.jpg"],
        ["Testing/dog/4.jpg"],
    ]
    assert source.load("train").label_names == ("cat", "dog")


def test_classes_that_are_called_as_splits_are(tmp_path):
    source = Folder(touch(tmp_path, "train/1.jpg", "test/2.jpg", "plane/3.jpg", "train/4.jpg"), shares=(1.0, 0.0, 0.0))
    assert source.split_names() == () and source.load("train").label_names == ("plane", "test", "train")
