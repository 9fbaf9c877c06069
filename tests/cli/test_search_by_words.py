"""Searches by words, and by photos with words, with a run that reads titles: the command, Python, and the service."""

import contextlib
import csv
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from pages import loads_nothing
from PIL import Image
from search.serve.serving import AUTHORISED, served

import ssljax as package
from ssljax.cli.main import run as ssljax
from ssljax.cli.search import Searched
from ssljax.evaluation import Embeddings
from ssljax.evaluation.vectors import normalise
from ssljax.search import Collection
from ssljax.types import UserError

EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import Bytes, Catalogue, Titles
from ssljax.evaluation import Retrieval
from ssljax.methods import SimCLR
from ssljax.models import MLP, BagOfTokens, Fusion, ResNet
from ssljax.search import Exact
from ssljax.views import PhotoAndTitle, TwoCrops

config = Experiment(
    name="shop", data=Catalogue("{folder}/shop.csv", images="{{id}}.jpg", listing="listing", title="name"),
    photo_size=20, titles=Titles(Bytes(), length=24),
    views=PhotoAndTitle(TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0)),
    method=SimCLR(
        encoder=Fusion(photo=ResNet(depth=10, width=4), title=BagOfTokens(vocabulary=256, dim=16)),
        projector=MLP(hidden=(16,), out=8)),
    epochs=1, batch_size=8, evaluate=(Retrieval(),), index=Exact())
"""
TITLES = [" ".join(pair) for pair in itertools.product(("Red", "Blue", "Ochre", "White"), ("mug", "<b>hat", "sofa"))]
ODD = {
    "long": "red mug " * 1250,
    "emoji": "👗🔥👩‍👩‍👧",
    "half a character": "mug \ud83d",
    "a byte that is not UTF-8": "mug \udce9",
    "HTML": "<script>alert('1')</script>",
    "right to left": "فستان أحمر",
    "mixed scripts": "червоний \u202emug",
    "NUL": "mug\0",
}
BLANK = ["", "   ", "\u200b\ufeff", "\n", "<br>"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with a catalogue of 12 photos with titles, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("words")
    rng, rows = np.random.default_rng(0), [("id", "listing", "name", "split")]
    for i, title in enumerate(TITLES):
        Image.fromarray(rng.integers(0, 256, (24, 18, 3), np.uint8)).save(folder / f"{i}.jpg", quality=95)
        rows.append((str(i), str(i // 2), title, "train" if i < 8 else "test"))
    with open(folder / "shop.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "shop.py").write_text(EXPERIMENT.format(folder=folder))
    assert ssljax(["train", str(folder / "shop.py"), "--runs", str(folder / "runs")]) == 0
    return folder


@pytest.fixture(scope="module")
def run(shop) -> str:
    return str(shop / "runs" / "shop")


@pytest.fixture(scope="module")
def index(shop, run) -> str:
    """The folder of an index of the whole catalogue."""
    where = str(shop / "shop.index")
    assert ssljax(["embed", run, str(shop / "shop.csv"), "-o", str(shop / "all.npz")]) == 0
    assert ssljax(["index", str(shop / "all.npz"), "-o", where, "--kind", "exact"]) == 0
    return where


@pytest.fixture(scope="module")
def model(run):
    return package.load(run)


def told(capsys, *arguments) -> str:
    """What is said to a user's mistake."""
    capsys.readouterr()
    assert ssljax([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def first(out: str) -> str:
    return next(line for line in out.splitlines() if "│ 1 " in line)


def test_words_find_the_items_that_they_name(shop, run, index, tmp_path, capsys):
    for where, title in ((index, TITLES[4]), (run, TITLES[9])):
        capsys.readouterr()
        assert ssljax(["search", where, "--text", f" {title}  ", "--top", "3"]) == 0
        assert title in first(capsys.readouterr().out)
    page = tmp_path / "page.html"
    assert ssljax(["search", index, "--text", "Red mug", "--text", "Blue <hat>", "--k", "2", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert '"Red mug"' in out and '"Blue <hat>"' in out and out.count("│ 1 ") == 2
    loads_nothing(page.read_text())
    assert "“Blue &lt;hat&gt;”" in page.read_text() and page.read_text().count("<img") == 4


def test_each_photo_is_searched_by_with_each_text(shop, index, tmp_path, capsys):
    photos, page = [str(shop / "1.jpg"), str(shop / "2.jpg")], tmp_path / "page.html"
    asked = ["search", index, *photos, "--text", "Red mug", "--text", "White sofa", "--k", "1"]
    assert ssljax([*asked, "--html", str(page)]) == 0
    headings = [line for line in capsys.readouterr().out.splitlines() if line.endswith('"')]
    assert headings == [f'{photo} + "{text}"' for photo in photos for text in ("Red mug", "White sofa")]
    loads_nothing(page.read_text())
    assert page.read_text().count("<img") == 8 and page.read_text().count("“White sofa”") == 2
    found = {}
    for weight in ("0", "1"):
        assert ssljax([*asked, "--text-weight", weight]) == 0
        found[weight] = [line for line in capsys.readouterr().out.splitlines() if "│ 1 " in line]
    assert ["<b>hat" in line for line in found["0"]] == [True, True, False, False]  # titles of the photos' items
    assert ["Red mug" in line for line in found["1"]] == [True, False, True, False]
    assert ["White sofa" in line for line in found["1"]] == [False, True, False, True]


def test_a_photo_with_a_text_is_their_weighted_mean_on_the_sphere(shop, index, model):
    opened, photo, text = model.index(index), str(shop / "3.jpg"), "Ochre sofa"
    seen, read = normalise(model.embed(photo).vectors), normalise(model.embed_titles([text]))
    items = normalise(Embeddings.load(shop / "all.npz").vectors)
    for weight in (0.0, 0.3, 1.0):
        query = (1 - weight) * seen[0] + weight * read[0]
        scores = items @ (query / np.linalg.norm(query))
        (row,) = opened.search(photo, k=12, text=text, text_weight=weight)
        assert [int(found.id) for found in row] == np.argsort(-scores).tolist()
        np.testing.assert_allclose([found.score for found in row], np.sort(scores)[::-1], atol=1e-5)
    assert opened.search(k=1, text=text)[0][0].columns["title"] == text
    both = opened.search([photo, str(shop / "4.jpg")], k=2, text=text)
    alone = opened.search(photo, 2, text=text)[0]
    assert [len(row) for row in both] == [2, 2] and [one.id for one in both[0]] == [one.id for one in alone]


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_any_text_is_searched_by(text, shop, index, model, tmp_path, capsys):
    assert len(model.index(index).search(k=3, text=text)[0]) == 3
    if "\0" not in text:  # which no command line can hold
        page = tmp_path / "page.html"
        assert ssljax(["search", index, str(shop / "1.jpg"), "--text", text, "--html", str(page)]) == 0
        loads_nothing(page.read_text())


def test_what_is_no_text_or_no_weight_is_said(shop, run, index, model, capsys):
    for text in BLANK:
        assert "must be words, such as 'red floral dress'" in told(capsys, "search", index, "--text", text)
        with pytest.raises(UserError, match="must be words"):
            model.index(index).search(text=text)
    for weight in ("-0.1", "1.1", "nan"):
        assert f"text_weight={weight} must be from 0" in told(
            capsys, "search", index, "--text=red", f"--text-weight={weight}"
        )
    for text in (3, ["red"], b"red"):
        with pytest.raises(UserError, match="must be words"):
            model.index(index).search(text=text)
    with pytest.raises(UserError, match="give photos to search by, a text, or both"):
        model.index(index).search()
    assert "or words" in told(capsys, "search", index)


def test_embeddings_of_another_catalogue_read_its_titles(shop, run, tmp_path, capsys, model):
    for i in range(4):
        shutil.copy(shop / f"{i}.jpg", tmp_path)
    (tmp_path / "few.csv").write_text("id,caption\n" + "".join(f"{i},{TITLES[i]}\n" for i in range(4)))
    few, output = str(tmp_path / "few.csv"), tmp_path / "few.npz"
    assert ssljax(["embed", run, few, "--title", "caption", "-o", str(output)]) == 0
    assert "no titles" not in capsys.readouterr().err
    photos = [str(tmp_path / f"{i}.jpg") for i in range(4)]
    with_titles, alone = model.embed(photos, TITLES[:4]).vectors, model.embed(photos).vectors
    np.testing.assert_allclose(Embeddings.load(output).vectors, with_titles, atol=1e-5)
    assert np.abs(with_titles - alone).max() > 0.1
    for data in (few, str(tmp_path)):  # the column of titles has another name than the run's; a folder
        assert ssljax(["embed", run, data, "-o", str(output)]) == 0
        assert capsys.readouterr().err.count(f"{data} has no titles, which the network reads as well") == 1
        np.testing.assert_allclose(Embeddings.load(output).vectors, alone, atol=1e-5)


@pytest.mark.parametrize("command", ["duplicates", "match --by image", "match --by title"])
def test_vectors_of_photos_and_titles_together_are_of_neither_alone(command, shop, run, index, capsys):
    name, *options = command.split()
    alone = "titles" if "title" in options else "images"
    error = "".join(told(capsys, name, shop / "all.npz", *options).split())  # lines break also within a path
    assert f"holds vectors of photos and titles together, and none of {alone} alone".replace(" ", "") in error
    assert f"name the run {run} instead".replace(" ", "") in error and "--by" not in error


def test_the_service_embeds_as_the_command_does(shop, index, model):
    searched, photo = Searched.of(Path(index), None), (shop / "5.jpg").read_bytes()
    searched.collection.close()
    copy = shop / "served.index"
    shutil.copytree(index, copy)
    with (
        served(copy, encoder=searched.encoder, title="name") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):

        def check(own, **sent):
            answer = client.post("/search", **sent)
            assert answer.status_code == 200, answer.text
            items = answer.json()["items"]
            assert [item["id"] for item in items] == [match.id for match in own[0]]
            np.testing.assert_allclose([item["score"] for item in items], [match.score for match in own[0]], atol=1e-4)

        own, path = model.index(index), str(shop / "5.jpg")
        check(own.search(text="Red mug"), json={"text": "Red mug"})
        check(own.search(text="Red mug", k=3), data={"k": "3"}, files={"text": (None, "Red mug")})
        both = {"data": {"text": "Red mug", "text_weight": "0.3"}, "files": {"photo": photo}}
        check(own.search(path, text="Red mug", text_weight=0.3), **both)
        check(own.search(path), content=photo)
        columns = {"columns": json.dumps({"name": "Green lamp"}), "id": "new"}
        assert client.post("/items", data=columns, files={"photo": photo}, headers=AUTHORISED).status_code == 201
    with contextlib.closing(Collection.open(copy, to_change=True)) as changed:
        vector = normalise(model.embed(path, ["Green lamp"]).vectors)
        ids, scores = changed.search(vector, 1)
        assert ids[0, 0] == "new" and scores[0, 0] == pytest.approx(1, abs=1e-4)


def test_the_guide_to_searching_by_words_works_as_it_is_written(shop, run, tmp_path, monkeypatch):
    guide = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    section = re.search(r"## Search by words\n(.*?)\n## ", guide, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(Path(run).parent)
    shutil.copy(shop / "1.jpg", "photo.jpg")
    for line in re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "ssljax" and ssljax(arguments) == 0, line
    loads_nothing(Path("found.html").read_text())
    assert "ssljax search runs/shop PHOTO --text WORDS" in Path("found.html").read_text()
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], {})
