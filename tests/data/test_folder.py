import numpy as np
import pytest

from ssljax.data.folder import Folder
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


@pytest.mark.real_data
def test_cifar10(data_root):
    items = Folder("cifar10").load("test")
    assert len(items) == 10000 and len(items.label_names) == 10 and (np.bincount(items.label) == 1000).all()
