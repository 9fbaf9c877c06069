"""Names and titles that are no text, steer a terminal, or are formulas, code and markup: through every command."""

import csv
import json
import os
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from pages import HOSTILE, Page, loads_nothing
from PIL import Image
from search.serve.serving import ORIGIN, photo, served

from ssljax.cli.main import run as ssljax
from ssljax.data.text import STEERING
from ssljax.evaluation import Embeddings
from ssljax.evaluation.embed import Encoder
from ssljax.search import Collection

TITLES = [
    HOSTILE,
    "half an emoji \ud83d",
    "=cmd|' /C calc'!A0",
    "\x1b[31mred\x1b]0;owned\x07 [bold]x[/] :heart: [/]",
    "\u202egnp.exe\u2066 \x9b31m \x7f",
    "line\nfeed\ttab\rreturn",
]
BAD = ["=HYPERLINK(1)", "\x1b[2J", "+1+cmd", "@x", "\ud83d"]  # ids whose photos are missing
EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import Catalogue, Folder
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.evaluation import Retrieval
from ssljax.search import Exact
from ssljax.views import TwoCrops

config = Experiment(
    name="shop", data={data}, photo_size=20, max_bad_share=0.9,
    method=SimCLR(encoder=ResNet(depth=10, width=4), projector=MLP(hidden=(16,), out=8)),
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    epochs=1, batch_size=8, evaluate=(Retrieval({relevant}),), index=Exact())
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with hostile catalogues, a hostile folder of photos, and a run that was trained on a catalogue."""
    folder = tmp_path_factory.mktemp("shop")
    rng, rows = np.random.default_rng(0), []
    for i in range(36):
        name = f"{i} \udce9.jpg" if i % 2 else f"{i} \x1b[31m.jpg"
        Image.fromarray(rng.integers(0, 256, (24, 18, 3), np.uint8)).save(folder / "a.jpg", quality=95)
        (folder / "a.jpg").rename(folder / name)
        title = TITLES[i % 6]
        split = "train" if i < 16 else "test"
        rows.append({"id": f"{i} {title}", "file": name, "title": title, "kind": title, title: title, "split": split})
    for split in ("train", "test"):
        rows += [{"id": f"{id} {split}", "file": f"no {id}.jpg", "kind": "x", "split": split} for id in BAD]
    (folder / "shop.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = f'Catalogue("{folder}/shop.jsonl", images="file", label="kind", attributes=("title",), title="title")'
    (folder / "shop.py").write_text(EXPERIMENT.format(data=data, relevant='relevant="label"'))
    photos = folder / "photos"
    for i, kind in enumerate((b"caf\xe9", b"[bold]", b"=cmd")):
        os.makedirs(os.path.join(os.fsencode(photos), kind))
        for k in range(4):
            shutil.copy(folder / rows[4 * i + k]["file"], os.path.join(os.fsencode(photos), kind, b"%d\xff.jpg" % k))
    (photos / "=cmd" / "=bad.jpg").touch()
    other = EXPERIMENT.format(data=f'Folder("{photos}", shares=(0, 0, 1))', relevant='relevant="label"')
    (folder / "other.py").write_text(other.replace('name="shop"', 'name="other"'))
    assert ssljax(["train", str(folder / "shop.py"), "--runs", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def said(capfd):
    """What commands print, in which nothing steers a terminal."""

    def read() -> str:
        captured = capfd.readouterr()
        assert not STEERING.search(captured.out) and not STEERING.search(captured.err), captured
        return captured.out + captured.err

    yield read


def clean(path: Path) -> str:
    """A file's text, which is valid."""
    return path.read_bytes().decode("utf-8")


def test_training_leaves_a_report_that_is_whole_and_harmless(shop):
    page = clean(shop / "runs/shop/report.html")
    loads_nothing(page)
    texts = "".join(Page(page).texts)
    assert HOSTILE in texts and "half an emoji \ufffd" in texts
    json.loads(clean(shop / "runs/shop/results.json"))


def test_the_list_of_bad_photos_has_no_formula_and_nothing_that_steers(shop):
    with open(shop / "runs/shop/bad_inputs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == 2 * len(BAD)
    cells = [cell for row in rows for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) or STEERING.search(cell) for cell in cells)
    assert {row[0] for row in rows} >= {
        "'=HYPERLINK(1) test",
        "\\x1b[2J test",
        "'+1+cmd train",
        "'@x test",
        "\ufffd train",
    }


def test_the_report_and_evaluations_can_be_made_again(shop, said):
    run = str(shop / "runs/shop")
    assert ssljax(["report", run, "--by", TITLES[0]]) == 0
    assert ssljax(["evaluate", run]) == 0
    assert ssljax(["evaluate", run, str(shop / "other.py")]) == 0
    assert "evaluation-other.json" in said()
    for column in ("\x1b[31m", "\ud83d"):
        assert ssljax(["report", run, "--by", column]) == 2
        assert "is no column of the data" in said()
    listed = (shop / "runs/shop/bad_inputs-other.csv").read_text(encoding="utf-8").splitlines()
    assert listed[1:] == [f"'=cmd/=bad.jpg,{shop / 'photos/=cmd/=bad.jpg'},empty file"]
    assert "=bad" not in (shop / "runs/shop/bad_inputs.csv").read_text(encoding="utf-8")


def test_a_contact_sheet(shop, said):
    assert ssljax(["views", str(shop / "shop.py"), "-o", str(shop / "views.png")]) == 0
    assert said().strip().endswith("views.png")


@pytest.mark.parametrize("data", ["shop.jsonl", "photos"])
@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embeddings_an_index_and_a_search(shop, data, suffix, said, tmp_path):
    file, index, page = tmp_path / f"x.{suffix}", tmp_path / "index", tmp_path / "page.html"
    assert ssljax(["embed", str(shop / "runs/shop"), str(shop / data), "-o", str(file)]) == 0
    embeddings = Embeddings.load(file)
    assert len(embeddings) == (36 if data == "shop.jsonl" else 12) and len(set(embeddings.ids)) == len(embeddings)
    "".join([*embeddings.ids, *(v for values in embeddings.columns.values() for v in values)]).encode()
    assert all(os.path.isfile(photo) for photo in embeddings.photos)
    assert ssljax(["index", str(file), "-o", str(index), "--kind", "exact"]) == 0
    photos = list(embeddings.photos[:6])
    assert ssljax(["search", str(index), *photos, "--html", str(page), "--top", "6"]) == 0
    text = clean(page)
    loads_nothing(text)
    assert Page(text).of("img") and '"data:image/jpeg' in text
    out = said()
    assert "[bold]" in out and f"; {10 if data == 'shop.jsonl' else 1} cannot be read" in out
    collection = Collection.open(index)
    item = collection.item(embeddings.ids[1])
    assert os.path.isfile(item.photo) and json.dumps(item.columns, ensure_ascii=False).encode()


@pytest.mark.parametrize("data", ["shop.jsonl", "photos"])
def test_the_service_answers_with_them(shop, data, tmp_path):
    file, index = tmp_path / "x.npz", tmp_path / "index"
    assert ssljax(["embed", str(shop / "runs/shop"), str(shop / data), "-o", str(file)]) == 0
    assert ssljax(["index", str(file), "-o", str(index), "--kind", "exact"]) == 0
    ones = Encoder(lambda image, aspect: np.ones((len(image), 32), np.float32), 16, ORIGIN)
    with served(index, encoder=ones) as address, httpx.Client(base_url=address, timeout=30) as client:
        items = client.post("/search?k=6", content=photo(0)).json()["items"]
        assert len(items) == 6
        for item in (item for item in items if "\n" not in item["id"]):
            assert client.get(item["photo"]).status_code == client.get(item["similar"]).status_code == 200, item


def test_mistakes_show_names_that_do_not_steer(shop, said, tmp_path):
    name = "\x1b[31m\ud83d\u202e"
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": name, name: "x"}) + "\n" + json.dumps({"id": name}))
    run = str(shop / "runs/shop")
    for arguments in (["--images", "x"], ["--images", "{id}.jpg"], ["--splits", name]):
        assert ssljax(["embed", run, str(tmp_path / "c.jsonl"), *arguments]) == 2
    assert ssljax(["search", run, str(tmp_path / "\x1b[31m.jpg")]) == 2
    assert "\\x1b[31m" in said()
