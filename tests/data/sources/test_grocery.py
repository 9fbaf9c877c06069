"""The grocery photos, laid out as they are published."""

import pytest
from PIL import Image

from ssljax.data import Grocery
from ssljax.types import UserError

HEADER = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str),X"


@pytest.fixture
def folder(tmp_path):
    """Two products, the first with five photos and the second with two."""
    rows = [f"{name},{code},Fruit,0,/iconic/{name}.jpg,x" for code, name in enumerate(("Apple", "Pear"))]
    (tmp_path / "classes.csv").write_text("\n".join([HEADER, *rows]))
    photos = [f"train/{name}/{name}_{k:03d}.jpg" for name, n in (("Apple", 5), ("Pear", 2)) for k in range(1, n + 1)]
    (tmp_path / "train.txt").write_text("".join(f"{p}, {int('Pear' in p)}, 0\n" for p in photos))
    for path in [*photos, "iconic/Apple.jpg", "iconic/Pear.jpg"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(tmp_path / path)
    return tmp_path


def test_three_photos_in_a_row_of_one_product_are_a_listing(folder):
    items = Grocery(str(folder)).load("train")
    assert list(items.label) == [0] * 5 + [1] * 2 and items.label_names == ("Apple", "Pear")
    assert list(items.columns["listing"]) == ["Apple 0"] * 3 + ["Apple 1"] * 2 + ["Pear 0"] * 2
    assert items.photos[0].exists() and list(items.columns["category"]) == ["Fruit"] * 7
    iconic = Grocery(str(folder)).load("iconic")
    assert list(iconic.columns["product"]) == ["Apple", "Pear"] and iconic.photos[1].exists()


def test_what_is_missing_or_foreign_is_told(folder):
    with pytest.raises(UserError, match=r"split 'test' needs .*test.txt; there are train, val, test and iconic"):
        Grocery(str(folder)).load("test")
    (folder / "train.txt").write_text("train/a.jpg, 7, 0\n")
    with pytest.raises(UserError, match="is not the Grocery Store data set as published"):
        Grocery(str(folder)).load("train")
    (folder / "train.txt").write_text("")
    with pytest.raises(UserError, match="is not the Grocery Store data set as published"):
        Grocery(str(folder)).load("train")


def test_descriptions_are_titles(folder):
    header, *rows = (folder / "classes.csv").read_text().splitlines()
    header = header.replace(",X", ",Product Description Path (str)")
    rows = [row.removesuffix(",x") + f",/told/{name}.txt" for name, row in zip(("Apple", "Pear"), rows, strict=True)]
    (folder / "classes.csv").write_text("\n".join([header, *rows]))
    (folder / "told").mkdir()
    (folder / "told/Apple.txt").write_text("A red\n  apple.\n")
    (folder / "told/Pear.txt").write_text("A pear.")
    (folder / "told/Pear_Swedish.txt").write_text("Ett p\u00e4ron.")
    english, swedish = (Grocery(str(folder), title=language).load("train") for language in ("english", "swedish"))
    assert list(english.columns["title"]) == ["A red apple."] * 5 + ["A pear."] * 2
    assert list(swedish.columns["title"]) == [""] * 5 + ["Ett p\u00e4ron."] * 2
    assert "title" not in Grocery(str(folder)).load("train").columns
    with pytest.raises(UserError, match=r"data.title=.klingon. must be 'english' or 'swedish' or None"):
        Grocery(title="klingon")


@pytest.mark.real_data("grocery")
def test_published_counts():
    assert [len(Grocery().load(split)) for split in ("train", "val", "test", "iconic")] == [2640, 296, 2485, 81]
