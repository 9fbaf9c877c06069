"""The contact sheet: drawn from the toy catalogue by the command, and users' mistakes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssljax.cli.main import run as ssljax
from ssljax.config import Experiment
from ssljax.data import Bytes, Items, TitleAugmentation, Titles, ToyCatalogue
from ssljax.report.contact_sheet import CELL, COLUMNS, GAP, LABEL, LINE, contact_sheet, disturbances_of
from ssljax.views import Augmentation, Masked, MultiCrop, Padding, Perspective, Rotation, TwoCrops
from ssljax.views.disturbances import DISTURBANCES

EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import Folder, ToyCatalogue
from ssljax.views import Padding, Rotation, TwoCrops

config = Experiment(
    batch_size=8,
    name="small", data=ToyCatalogue(listings=8, size=32), photo_size=20,
    views=TwoCrops(size=16, blur=0.0, jitter=0.0, disturbances=[{disturbances}]))
"""
STEP = CELL + GAP


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The experiment's, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(EXPERIMENT.format(disturbances="Rotation(), Padding()"))
    Path("plain.py").write_text(EXPERIMENT.format(disturbances=""))
    return tmp_path


def drawn(*options: str) -> np.ndarray:
    """u8[h, w, 3], the sheet of the experiment with two disturbances."""
    assert ssljax(["views", "small.py", "--rows", "3", "-o", "sheets/a.png", *options]) == 0
    return np.asarray(Image.open("sheets/a.png"))


def test_the_sheet_shows_photos_views_and_disturbances_and_the_seed_decides(folder, capsys):
    sheet = drawn()
    assert capsys.readouterr().out.strip() == "sheets/a.png"
    assert sheet.shape == (2 * LINE + 5 * STEP, LABEL + COLUMNS * STEP, 3)

    def cell(row, column):
        top = LINE * (1 + (row >= 3)) + row * STEP
        return sheet[top : top + CELL, LABEL + column * STEP :][:, :CELL].astype(int)

    cells = [[cell(row, column) for column in range(COLUMNS)] for row in range(5)]
    assert all(c.std() > 3 for row in cells for c in row[:9])  # nothing is left empty
    for row, photos in ((3, (0, 1)), (4, (2, 0))):
        for block, photo in enumerate(photos):  # strength 0 is what is embedded, and 1 is far from it
            np.testing.assert_array_equal(cells[row][5 * block], cells[photo][0])
            assert np.abs(cells[row][5 * block + 4] - cells[photo][0]).mean() > 3
    np.testing.assert_array_equal(drawn(), sheet)
    assert (drawn("--seed", "1") != sheet).any()


def test_classes_are_shown_photo_by_photo(folder):
    sampler = "ToyCatalogue(listings=8, size=32), sampler=Classes(per_class=2)"
    source = EXPERIMENT.replace("import Folder", "import Classes, Folder")
    source = source.replace("ToyCatalogue(listings=8, size=32)", sampler).format(disturbances="Rotation(), Padding()")
    Path("small.py").write_text(source)
    assert drawn("--data.listings", "30").shape == (2 * LINE + 5 * STEP, LABEL + COLUMNS * STEP, 3)


def test_without_disturbances_of_its_own_all_are_shown():
    assert ssljax(["views", "plain.py", "--rows", "1", "--photo-size", "16"]) == 0
    assert Image.open("views.png").height == 2 * LINE + (1 + len(DISTURBANCES)) * STEP


@dataclasses.dataclass(frozen=True)
class Titled:
    """A catalogue with titles, one of them missing."""

    def load(self, split: str) -> Items:
        items = ToyCatalogue(listings=8, size=32).load(split)
        titles = np.array([f"title of number {k}" * (k > 0) for k in range(len(items))], np.dtypes.StringDType())
        return dataclasses.replace(items, columns=items.columns | {"title": titles})


def test_titles_are_shown_with_changes():
    titles = Titles(Bytes(), augmentation=TitleAugmentation(drop=0.5))
    settings = {"batch_size": 8, "photo_size": 20, "views": TwoCrops(size=16, disturbances=(Padding(),))}
    experiment = Experiment(name="titled", data=Titled(), **settings)
    plain, sheet = (
        np.asarray(contact_sheet(e, 2)) for e in (experiment, dataclasses.replace(experiment, titles=titles))
    )
    top, bottom = LINE + 2 * STEP, 2 * LINE + 4 * STEP
    np.testing.assert_array_equal(np.concatenate([sheet[:top], sheet[bottom:]]), plain)
    texts = sheet[top + LINE : top + LINE + CELL, LABEL:].reshape(CELL, COLUMNS, STEP, 3)[:, :, :CELL]
    assert (texts[:, 0] < 128).any() and (texts[:, 0] != texts[:, 1:].swapaxes(0, 1)).any()


def test_disturbances_of_augmentations_inside_views():
    local = Augmentation(disturbances=(Padding(), Rotation()))
    views = Masked(MultiCrop(disturbances=(Rotation(), Perspective()), local=local))
    assert disturbances_of(views) == [Rotation(), Perspective(), Padding()]
    assert disturbances_of(TwoCrops()) == []


MISTAKES = {
    "no file": (["views"], "an experiment file comes first"),
    "missing file": (["views", "nowhere.py"], "there is no experiment file nowhere.py"),
    "rows": (["views", "small.py", "--rows", "0"], "rows=0 is too small"),
    "no PNG": (["views", "small.py", "-o", "sheet.gif"], "output=sheet.gif must end in .png"),
    "unwritable": (
        ["views", "small.py", "--rows", "1", "-o", "small.py/a.png"],
        "small.py/a.png cannot be written (File exists): choose another --output",
    ),
}


@pytest.mark.parametrize("arguments, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert ssljax(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_photos_that_cannot_be_read_are_passed_over_unless_all_are(folder, capsys):
    photos = folder / "photos" / "train" / "a"
    photos.mkdir(parents=True)
    for number in range(3):
        (photos / f"{number}.jpg").write_text("not a photo")
    source = EXPERIMENT.format(disturbances="Rotation()").replace(
        "ToyCatalogue(listings=8, size=32)", 'Folder("photos")'
    )
    Path("bad.py").write_text(source)
    assert ssljax(["views", "bad.py", "--batch-size", "2"]) == 2
    assert "not one photo of the train split can be read" in capsys.readouterr().err
    Image.new("RGB", (20, 20), "red").save(photos / "3.jpg")
    assert ssljax(["views", "bad.py", "--batch-size", "2"]) == 0
    assert Image.open("views.png").height == 2 * LINE + 2 * STEP


def test_help_without_a_file(capsys):
    with pytest.raises(SystemExit) as exit_:
        ssljax(["views", "--help"])
    assert exit_.value.code == 0
    assert "usage: ssljax views FILE" in (help_ := capsys.readouterr().out)
    assert "--output" in help_ and "-o" in help_
