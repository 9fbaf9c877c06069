"""The copy of a catalogue without watermarks: what is changed, what is not, the page, and users' mistakes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pages import HOSTILE, Page, loads_nothing
from PIL import Image
from stamped import mark, photos, stamp

from ssljax.cli.main import run as ssljax

MARKED, PLAIN, FEW = f"marked {HOSTILE}", "plain", "few"


def write(folder: Path, groups: dict[str, np.ndarray], suffix: str = "png") -> None:
    (folder / "images").mkdir(parents=True)
    with open(folder / "items.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "seller"])
        for number, (seller, pixels) in enumerate(groups.items()):
            for k, photo in enumerate(pixels):
                rows.writerow([f"{number}-{k}", seller])
                Image.fromarray(photo).save(folder / f"images/{number}-{k}.{suffix}")


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch) -> Path:
    """A catalogue of three sellers: with a mark, without, and with a mark on few photos."""
    monkeypatch.chdir(tmp_path)
    clean = photos(16, seed=1)
    write(Path("shop"), {MARKED: stamp(clean, *mark()), PLAIN: photos(12, seed=2), FEW: stamp(clean[:5], *mark())})
    return tmp_path


def unmark(*options: str) -> int:
    return ssljax(["unmark", "shop/items.csv", "-o", "clean", "--images", "images/{id}.png", *options])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_only_the_marked_sellers_photos_change_and_nothing_of_the_input(shop, capsys):
    before = content(shop / "shop")
    assert unmark("--by", "seller") == 0
    captured = capsys.readouterr()
    assert "1 of 3 sellers have a mark (1 have too few photos to tell); 16 of 33 photos were cleaned." in captured.err
    assert captured.out.strip() == "clean/before_after.html"
    assert content(shop / "shop") == before
    after = content(shop / "clean")
    assert set(after) == {*before, "before_after.html"}
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {f"images/0-{k}.png" for k in range(16)}
    assert [path.name for path in shop.iterdir() if path.name.startswith(".")] == []
    for k, original in enumerate(photos(16, seed=1)):
        cleaned = np.asarray(Image.open(shop / f"clean/images/0-{k}.png"))
        marked = np.asarray(Image.open(shop / f"shop/images/0-{k}.png"))
        assert np.abs(cleaned - original.astype(float)).mean() < np.abs(marked - original.astype(float)).mean() / 2


def test_the_page_shows_the_mark_and_photos_before_and_after(shop):
    unmark("--by", "seller")
    text = (shop / "clean/before_after.html").read_text()
    loads_nothing(text)
    page = Page(text)
    assert len(page.of("img")) == 1 + 2 * 6
    shown = "".join(page.texts)
    assert MARKED in shown and "on 16 of 16 photos" in shown and PLAIN not in shown.partition("<script>")[0]


def test_a_seller_may_be_left_as_it_is(shop):
    assert unmark("--by", "seller", "--leave", MARKED) == 0
    before, after = content(shop / "shop"), content(shop / "clean")
    assert all(after[name] == before[name] for name in before)
    assert "No mark was found" in after["before_after.html"].decode()


def test_without_sellers_all_photos_are_taken_together(shop, capsys):
    write(shop / "one", {"": stamp(photos(12, seed=3), *mark())}, "jpg")
    assert ssljax(["unmark", "one/items.csv", "-o", "new"]) == 0
    assert "1 of 1 sellers have a mark; 12 of 12 photos were cleaned." in capsys.readouterr().err
    assert Image.open("new/images/0-0.jpg").format == "JPEG"


def test_photos_that_are_missing_or_broken_are_passed_over(shop, capsys):
    (shop / "shop/images/0-0.png").unlink()
    (shop / "shop/images/0-1.png").write_text("no photo")
    assert unmark("--by", "seller") == 0
    assert "14 of 33 photos were cleaned; 1 are missing." in capsys.readouterr().err
    assert (shop / "clean/images/0-1.png").read_text() == "no photo"


MISTAKES = {
    "no file": (["nowhere.csv", "-o", "new"], "nowhere.csv' is not there"),
    "no such column": (
        ["shop/items.csv", "-o", "new", "--by", "seler"],
        "by='seler' is not a column of items.csv: did",
    ),
    "no such seller": (["shop/items.csv", "-o", "new", "--by", "seller", "--leave", "x"], "leave='x' is not a seller"),
    "no such image column": (["shop/items.csv", "-o", "new", "--images", "a/{b}.jpg"], "'b' is not a column"),
    "not empty": (["shop/items.csv", "-o", "shop"], "output='shop' is there already: name a new or empty folder"),
    "a file": (["shop/items.csv", "-o", "shop/items.csv"], "output='shop/items.csv' is there already"),
    "in a file": (["shop/items.csv", "-o", "shop/items.csv/new"], "cannot be written"),
    "outside": (
        ["shop/items.csv", "-o", "new", "--images", "../{id}.jpg"],
        "is not under shop, the catalogue's folder",
    ),
    "none read": (
        ["shop/items.csv", "-o", "new", "--images", "{id}.jpg"],
        "not one photo can be read (0-0.jpg: missing",
    ),
}


@pytest.mark.parametrize("arguments, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_users_mistake_is_one_sentence_and_leaves_nothing(arguments, sentence, shop, capsys):
    before = content(shop)
    assert ssljax(["unmark", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert content(shop) == before and not (shop / "new").exists()


def test_what_is_half_written_is_not_there(shop, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssljax.cli.unmark.write_before_after", fail)
    with pytest.raises(KeyboardInterrupt):
        unmark()
    assert {path.name for path in shop.iterdir()} == {"shop"}
