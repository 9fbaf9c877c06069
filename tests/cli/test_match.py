"""`ssljax match` and `ssljax duplicates`: what they write, from a run, an index or a file, and users' mistakes."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from pages import HOSTILE, Page, loads_nothing
from PIL import Image

from ssljax.cli.main import run as ssljax
from ssljax.evaluation import Embeddings

EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.evaluation import ShopeeF1
from ssljax.search import Exact
from ssljax.views import TwoCrops

config = Experiment(
    name="{name}", photo_size=20,
    data=Catalogue("{folder}/shop.csv", images="{{id}}.png", listing="listing", title="title"),
    method=SimCLR(encoder=ResNet(depth=10, width=4), projector=MLP(hidden=(16,), out=8)),
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    epochs=1, batch_size=8, evaluate={evaluate}, index=Exact(), seed=0)
"""


def write_catalogue(folder: Path, listings: dict[str, int], seed: int, name: str) -> None:
    """Photos of each listing, of its own colours with some noise, and a catalogue of them."""
    rng, rows = np.random.default_rng(seed), []
    for number, split in enumerate(split for split, count in listings.items() for _ in range(count)):
        small = rng.integers(0, 256, (3, 3, 3)).astype(np.uint8)
        for k in range(3):
            large = np.asarray(Image.fromarray(small).resize((24, 24), Image.Resampling.BILINEAR), np.int16)
            photo = np.clip(large + rng.integers(-30, 31, large.shape), 0, 255).astype(np.uint8)
            Image.fromarray(photo).save(folder / f"{name}{number}-{k}.png")
            title = f"{('red', 'blue', 'old')[k]} thing{number} {HOSTILE}"
            rows.append((f"{name}{number}-{k}", str(number), title, split))
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "listing", "title", "split"), *rows])


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with a run, one that chose a threshold, a catalogue of other items, its embeddings and an index."""
    folder = tmp_path_factory.mktemp("shop")
    write_catalogue(folder, {"train": 4, "val": 5, "test": 4}, 0, "shop")
    write_catalogue(folder, {"": 6}, 1, "other")
    for name, evaluate in (("plain", "()"), ("judged", "(ShopeeF1(),)")):
        (folder / f"{name}.py").write_text(EXPERIMENT.format(name=name, folder=folder, evaluate=evaluate))
        assert ssljax(["train", str(folder / f"{name}.py"), "--runs", str(folder)]) == 0
    assert ssljax(["embed", str(folder / "plain"), str(folder / "other.csv"), "-o", str(folder / "other.npz")]) == 0
    assert ssljax(["index", str(folder / "other.npz"), "-o", str(folder / "index"), "--kind", "exact"]) == 0
    return folder


def matched(shop, capsys, *arguments, command="match") -> tuple[list[dict[str, str]], str]:
    """The rows that are written, and what is said."""
    output = shop / "out.csv"
    output.unlink(missing_ok=True)
    capsys.readouterr()
    assert ssljax([command, *map(str, arguments), "-o", str(output)]) == 0
    with open(output, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), " ".join(capsys.readouterr().err.split())


def told(capsys, *arguments, command="match") -> str:
    """What is said to a user's mistake."""
    capsys.readouterr()
    assert ssljax([command, *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return " ".join(error.split())


def test_each_item_has_its_matches_and_its_group_and_each_match_a_row(shop, capsys):
    rows, said = matched(shop, capsys, shop / "plain", shop / "other.csv", "--pairs", shop / "pairs.csv")
    assert "items: 18" in said and "by split 'val', where F1 is" in said
    matches = {row["id"]: row["matches"].split() for row in rows}
    assert len(rows) == 18 and all(found[0] == id for id, found in matches.items())
    groups = {row["id"]: row["group"] for row in rows}
    assert all(groups[id] == groups[other] for id, found in matches.items() for other in found)
    with open(shop / "pairs.csv", newline="") as file:
        pairs = list(csv.DictReader(file))
    assert {(p["id"], p["match"]) for p in pairs} == {(i, o) for i, found in matches.items() for o in found[1:]}
    assert all(float(p["margin"]) >= 0 and p["by"] == "photo" for p in pairs)
    vectors = Embeddings.load(shop / "other.npz")
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    place = {id: k for k, id in enumerate(vectors.ids)}
    for pair in pairs:
        expected = unit[place[pair["id"]]] @ unit[place[pair["match"]]]
        assert float(pair["score"]) == pytest.approx(expected, abs=1e-3)


def test_a_run_an_index_and_a_file_give_the_same_and_parquet_holds_lists(shop, capsys):
    def of(*arguments):
        return [(r["id"], sorted(r["matches"].split())) for r in matched(shop, capsys, *arguments)[0]]

    expected = of(shop / "plain", shop / "other.csv")
    assert sorted(of(shop / "index")) == sorted(expected) == sorted(of(shop / "other.npz"))
    assert of(shop / "plain", shop / "other.csv", "--with", shop / "plain", "--groups", "mutual") == expected
    assert ssljax(["match", str(shop / "other.npz"), "-o", str(shop / "out.parquet")]) == 0
    table = pyarrow.parquet.read_table(shop / "out.parquet").to_pydict()
    assert [(i, sorted(m)) for i, m in zip(table["id"], table["matches"], strict=True)] == expected


def test_a_threshold_is_given_or_that_of_the_run_or_chosen(shop, capsys):
    assert "when the run was evaluated" in matched(shop, capsys, shop / "judged", shop / "other.csv")[1]
    assert "by split 'val'" in matched(shop, capsys, shop / "judged", shop / "other.csv", "--relevant", "listing")[1]
    rows, said = matched(shop, capsys, shop / "plain", shop / "other.csv", "--threshold", "-1", "--most", "4")
    assert "by --threshold" in said and {len(row["matches"].split()) for row in rows} == {4}
    rows, said = matched(shop, capsys, shop / "plain", "--min2", "--blend")  # the run's own gallery
    assert len(rows) == 12 and "the nearest from" in said and "blend" in said


def test_titles_are_compared_by_their_words_alone_or_beside_photos(shop, capsys):
    rows, said = matched(shop, capsys, shop / "plain", shop / "other.csv", "--by", "title")
    assert "by words of titles" in said
    assert all({m.split("-")[0] for m in row["matches"].split()} == {row["id"].split("-")[0]} for row in rows)
    assert {len(row["matches"].split()) for row in rows} == {3}
    both, said = matched(shop, capsys, shop / "plain", shop / "other.csv", "--by", "both")
    assert "photo" in said and "words of titles" in said and len(both) == 18


def test_the_page_shows_groups_with_photos_and_escapes_titles(shop, capsys):
    matched(shop, capsys, shop / "plain", shop / "other.csv", "--threshold", "0.9", "--html", shop / "page.html")
    text = (shop / "page.html").read_text()
    loads_nothing(text)
    page = Page(text)
    assert page.of("img") and HOSTILE in " ".join(page.texts)
    assert "items that match none" in "".join(page.texts)
    matched(shop, capsys, shop / "plain", shop / "other.csv", "--threshold", "1", "--html", shop / "page.html")
    assert "No two items match." in (shop / "page.html").read_text()


def test_photos_that_cannot_be_read_are_listed_and_the_others_matched(shop, capsys):
    rows = (shop / "other.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (shop / "broken.csv").write_text("".join([*rows, "gone,99,a thing,\n"]), encoding="utf-8")
    arguments = (shop / "plain", shop / "broken.csv", "--max-bad-share", "0.2", "--threshold", "0.9")
    rows, said = matched(shop, capsys, *arguments)
    assert len(rows) == 18 and "photos that cannot be read: 1" in said
    assert "gone" in (shop / "out.csv.bad_inputs.csv").read_text()
    _, said = matched(shop, capsys, *arguments, command="duplicates")
    assert "photos that cannot be read: 1" in said and "gone" in (shop / "out.csv.bad_inputs.csv").read_text()
    assert len(matched(shop, capsys, *arguments, "--by", "both", "--threshold", "0.9", "0.9")[0]) == 18


def test_mistakes_of_match(shop, capsys, tmp_path):
    run, data = shop / "plain", shop / "other.csv"
    assert "is not a run folder, an index" in told(capsys, tmp_path)
    assert "only a run can embed a catalogue" in told(capsys, shop / "index", data)
    assert "is a folder: name a file in it" in told(capsys, run, data, "-o", tmp_path)
    assert "must end in .csv or .parquet" in told(capsys, run, data, "-o", tmp_path / "x.txt")
    assert "must be a cosine between -1 and 1" in told(capsys, run, data, "--threshold", "1.5")
    assert "must be a cosine" in told(capsys, run, data, "--threshold", "nan")
    assert "give 1, for photo" in told(capsys, run, data, "--threshold", "0.9", "0.8")
    assert "most=1 must be between" in told(capsys, run, data, "--most", "1")
    assert "leave out --threshold" in told(capsys, run, data, "--threshold", "0.9", "--min2")
    assert "choose --by image or --by title" in told(capsys, run, data, "--min2", "--by", "both")
    assert "no threshold can be chosen" in told(capsys, run, data, "--relevant", "id")
    assert "--relevant='nothing' is not a column" in told(capsys, run, data, "--relevant", "nothing")
    assert "an ensemble needs vectors of the same items" in told(capsys, run, "--with", shop / "other.npz")

    def catalogue(text: str) -> Path:
        (tmp_path / "c.csv").write_text(text)
        return tmp_path / "c.csv"

    photo = shop / "other0-0.png"
    one = catalogue(f"id,photo\na,{photo}\n")
    assert "has one item, and matching needs at least two" in told(capsys, run, one, "--images", "photo")
    blank = catalogue(f"id,photo\n,{photo}\nb,{photo}\n")
    assert "1 of 2 ids are blank" in told(capsys, run, blank, "--images", "photo")
    spaced = catalogue(f"id,photo\na b,{photo}\nc,{photo}\n")
    arguments = (run, spaced, "--images", "photo", "--threshold", "0.5", "-o", tmp_path / "m.csv")
    assert "id 'a b' has a blank" in told(capsys, *arguments) and not (tmp_path / "m.csv").exists()
    untitled = catalogue(f"id,photo\na,{photo}\nc,{photo}\n")
    assert "has no titles to compare" in told(
        capsys, run, untitled, "--images", "photo", "--by", "title", "--threshold", "0.5"
    )


# duplicates


def test_the_same_photo_is_found_by_its_pixels_and_another_colour_of_it_is_not(tmp_path, capsys):
    rng, rows = np.random.default_rng(0), ["id,title"]
    for k in range(8):
        small = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(small).resize((120, 160), Image.Resampling.BICUBIC).save(tmp_path / f"{k}.jpg", quality=95)
    first = Image.open(tmp_path / "0.jpg")
    first.resize((72, 96)).save(tmp_path / "smaller.jpg", quality=60)
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", quality=60)
    (tmp_path / "webp.jpg").write_bytes(buffer.getvalue())
    Image.fromarray(np.asarray(first)[:, :, [1, 2, 0]]).save(tmp_path / "recoloured.jpg", quality=95)
    first.crop((30, 30, 90, 110)).save(tmp_path / "cropped.jpg", quality=95)
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    names = [*map(str, range(8)), "smaller", "webp", "recoloured", "cropped", "broken"]
    (tmp_path / "shop.csv").write_text("\n".join([*rows, *(f"{name},{HOSTILE}" for name in names)]))
    options = ("--images", "{id}.jpg", "--max-bad-share", "0.1", "--html", tmp_path / "page.html")
    rows, said = matched(tmp_path, capsys, tmp_path / "shop.csv", *options, command="duplicates")
    assert {tuple(sorted((row["id"], row["duplicate"]))) for row in rows} == {
        ("0", "smaller"),
        ("0", "webp"),
        ("smaller", "webp"),
    }
    assert {row["kind"] for row in rows} == {"same photo"} and len({row["group"] for row in rows}) == 1
    assert "pairs of the same photo: 3" in said
    assert "broken" in (tmp_path / "out.csv.bad_inputs.csv").read_text()
    loads_nothing((tmp_path / "page.html").read_text())
    folder, _ = matched(tmp_path, capsys, tmp_path, "--max-bad-share", "0.1", command="duplicates")
    assert len(folder) == 3


def test_a_run_tells_the_same_photo_from_the_same_product(shop, capsys, tmp_path):
    rows = ["id,photo", *(f"{k},{shop / f'other0-{k}.png'}" for k in range(3)), f"copy,{tmp_path / 'copy.jpg'}"]
    Image.open(shop / "other0-0.png").save(tmp_path / "copy.jpg", quality=95, subsampling=0)
    (tmp_path / "c.csv").write_text("\n".join(rows))
    options = (shop / "plain", tmp_path / "c.csv", "--images", "photo", "--threshold", "0.5")
    found, _ = matched(tmp_path, capsys, *options, command="duplicates")
    kinds = {tuple(sorted((row["id"], row["duplicate"]))): row["kind"] for row in found}
    assert kinds["0", "copy"] == "same photo" and kinds["0", "1"] == "same product"
    assert all((row["difference"] == "") == (row["kind"] == "same product") for row in found)
    found, _ = matched(shop, capsys, shop / "index", "--threshold", "0.9", command="duplicates")
    assert {row["kind"] for row in found} <= {"same product", "same photo"}


def test_mistakes_of_duplicates(shop, capsys, tmp_path):
    assert "is not a run folder" in told(capsys, shop / "other.csv", "--threshold", "0.5", command="duplicates")
    assert "data.path" in told(capsys, tmp_path / "none.csv", command="duplicates")
    assert "is a folder" in told(capsys, shop / "other.csv", "-o", tmp_path, command="duplicates")
    (tmp_path / "one.csv").write_text(f"id,photo\na,{shop / 'other0-0.png'}\n")
    assert "has one photo that can be read" in told(
        capsys, tmp_path / "one.csv", "--images", "photo", "-o", tmp_path / "d.csv", command="duplicates"
    )
