"""From a run to a search: embed, index, search and evaluate from the command line, and what users do wrong there."""

import contextlib
import csv
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from pages import loads_nothing
from PIL import Image

from ssljax.cli.main import run as ssljax
from ssljax.cli.search import Searched
from ssljax.evaluation import Embeddings
from ssljax.search import Collection, Exact, save_collection
from ssljax.training.run_folder import Run

EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import Catalogue
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.evaluation import Retrieval
from ssljax.search import Exact
from ssljax.views import TwoCrops

config = Experiment(
    name="{name}", data=Catalogue("{folder}/shop.csv", images="{{id}}.jpg", listing="listing"), photo_size=20,
    method=SimCLR(encoder=ResNet(depth=10, width=4), projector=MLP(hidden=(16,), out=8)),
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    epochs=1, batch_size=8, evaluate=(Retrieval(split="{split}"),), index=Exact(), seed={seed})
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with a catalogue of 24 photos, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("shop")
    rng, rows = np.random.default_rng(0), [("id", "listing", "title", "split")]
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (24, 18, 3), np.uint8)).save(folder / f"{i}.jpg", quality=95)
        rows.append((str(i), str(i // 2), f"Mug <b>{i}</b>", "train" if i < 16 else "test"))
    with open(folder / "shop.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "shop.py").write_text(EXPERIMENT.format(name="shop", folder=folder, split="test", seed=0))
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


def told(capsys, *arguments) -> str:
    """What is said to a user's mistake."""
    capsys.readouterr()
    assert ssljax([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_embeddings_of_a_catalogue_are_of_all_its_rows_in_both_formats(shop, run, index, tmp_path):
    whole = Embeddings.load(shop / "all.npz")
    assert whole.ids.tolist() == [str(i) for i in range(24)] and whole.vectors.shape == (24, 32)
    assert whole.columns["title"][3] == "Mug <b>3</b>" and whole.photos[3] == str(shop / "3.jpg")
    assert whole.origin.run == run
    assert ssljax(["embed", run, str(shop / "shop.csv"), "--splits", "test", "-o", str(tmp_path / "test.parquet")]) == 0
    test, own = Embeddings.load(tmp_path / "test.parquet"), Embeddings.load(Run(Path(run)).embeddings("test"))
    assert test.origin == whole.origin == own.origin
    np.testing.assert_allclose(test.vectors, whole.vectors[16:], atol=1e-5)
    np.testing.assert_allclose(own.vectors, whole.vectors[16:], atol=1e-5)


def test_embeddings_of_a_folder_and_of_another_experiment(shop, run, tmp_path):
    (tmp_path / "photos" / "mugs").mkdir(parents=True)
    for i in range(3):
        shutil.copy(shop / f"{i}.jpg", tmp_path / "photos" / "mugs")
    assert ssljax(["embed", run, str(tmp_path / "photos"), "-o", str(tmp_path / "folder.npz")]) == 0
    assert Embeddings.load(tmp_path / "folder.npz").ids.tolist() == [f"mugs/{i}.jpg" for i in range(3)]
    assert ssljax(["embed", run, str(shop / "shop.py"), "-o", str(tmp_path / "test.npz")]) == 0
    assert len(Embeddings.load(tmp_path / "test.npz")) == 8


def test_a_catalogue_is_read_by_the_options_of_embed(shop, run, tmp_path, capsys):
    for i in range(6):
        shutil.copy(shop / f"{i}.jpg", tmp_path)
    (tmp_path / "few.csv").write_text("nr#front#back\n1#0.jpg#1.jpg\n2#2.jpg#3.jpg|4.jpg\n", encoding="utf-16")
    few, output = str(tmp_path / "few.csv"), str(tmp_path / "few.npz")
    how = ["--id", "nr", "--delimiter", "#", "--encoding", "utf-16"]
    assert ssljax(["embed", run, few, "-o", output, "--images", "front", "back", *how]) == 0
    assert Embeddings.load(output).ids.tolist() == ["1#0", "1#1", "2#0", "2#1", "2#2"]
    assert ssljax(["embed", run, few, "-o", output, "--images", "{nr}.jpg", *how]) == 0
    assert Embeddings.load(output).ids.tolist() == ["1", "2"]
    assert "nr#front#back" in told(capsys, "embed", run, few, "-o", output)  # what was found instead
    for address in ("https://shop.example/items.csv", "s3://bucket/items.csv"):
        assert "is an address: download it first" in told(capsys, "embed", run, address, "-o", output)
        assert "is an address: download it first" in told(capsys, "search", run, address)


def test_bad_photos_are_left_out_counted_and_listed(shop, run, tmp_path, capsys):
    for i in range(4):
        shutil.copy(shop / f"{i}.jpg", tmp_path)
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:200])
    (tmp_path / "few.csv").write_text("id,listing\n0,a\n1,a\n2,b\n3,b\n")
    few, output = tmp_path / "few.csv", tmp_path / "few.npz"
    assert "1 of 4 photos cannot be read, more than max_bad_share=0.01" in told(capsys, "embed", run, few, "-o", output)
    assert ssljax(["embed", run, str(few), "-o", str(output), "--max-bad-share", "0.5"]) == 0
    assert "3 of 4 photos in 32 dimensions; 1 cannot be read, and are listed in" in capsys.readouterr().err
    assert Embeddings.load(output).ids.tolist() == ["0", "2", "3"]
    listed = tmp_path / "few.npz.bad_inputs.csv"
    assert f"1,{tmp_path / '1.jpg'},truncated" in listed.read_text()
    assert not (Path(run) / "bad_inputs.csv").exists()  # that is of the run's own photos
    shutil.copy(shop / "1.jpg", tmp_path)
    assert ssljax(["embed", run, str(few), "-o", str(output)]) == 0 and not listed.exists()


def test_search_finds_the_photo_itself_in_an_index_and_in_a_run(shop, run, index, tmp_path, capsys):
    for where, photo in ((index, "5"), (run, "20")):
        capsys.readouterr()
        assert ssljax(["search", where, str(shop / f"{photo}.jpg"), "--top", "3"]) == 0
        out = capsys.readouterr().out
        first = next(line for line in out.splitlines() if "│ 1 " in line)
        assert "1.000" in first and f"Mug <b>{photo}</b>" in first and out.count("Mug") == 3
    photos = [str(shop / "1.jpg"), str(shop / "2.jpg")]
    assert ssljax(["search", index, *photos, "--k", "2", "--html", str(tmp_path / "page.html")]) == 0
    assert all(photo in capsys.readouterr().out for photo in photos[:1])
    page = (tmp_path / "page.html").read_text()
    loads_nothing(page)
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    photos = [photos[0], str(tmp_path / "bad.jpg"), str(tmp_path / "none.jpg"), photos[1]]
    assert ssljax(["search", index, *photos, "--k", "2", "--html", str(tmp_path / "again.html")]) == 2
    told = capsys.readouterr()
    assert all(photo in told.out for photo in (photos[0], photos[3]))
    assert all(f"{photo} cannot be read" in told.err for photo in photos[1:3])
    assert (tmp_path / "again.html").read_text() == page
    assert page.count("<img") == 2 * (1 + 2) and "Mug &lt;b&gt;1&lt;/b&gt;" in page


def test_a_run_that_reads_no_titles_is_not_searched_by_words(shop, run, index, capsys):
    for where, photos in ((index, ()), (run, (shop / "1.jpg",))):
        sentence = told(capsys, "search", where, *photos, "--text", "red mug")
        assert "the network of this index reads photos, but no titles" in sentence
    assert "name at least one photo, or words" in told(capsys, "search", index)


def test_the_guide_to_searching_works_as_it_is_written(shop, run, tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(Path(run).parent)
    shutil.copytree(shop, "shop", ignore=shutil.ignore_patterns("runs", "*.index"))
    for source, target in (
        ("shop/shop.csv", "shop/items.csv"),
        ("shop/1.jpg", "photo.jpg"),
        ("shop/2.jpg", "another.jpg"),
    ):
        shutil.copy(source, target)
    for line in re.search(r"```sh\n(.*?)```", guide, re.DOTALL)[1].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "ssljax" and ssljax(arguments) == 0, line
    assert Path("found.html").stat().st_size > 10_000
    capsys.readouterr()
    exec(re.search(r"## From Python\n.*?```python\n(.*?)```", guide, re.DOTALL)[1], {})
    assert "Mug" in capsys.readouterr().out


def test_an_index_of_several_files_and_its_settings(shop, run, index, tmp_path, capsys):
    files = []
    for split in ("train", "test"):
        files.append(str(tmp_path / f"{split}.parquet"))
        assert ssljax(["embed", run, str(shop / "shop.csv"), "--splits", split, "-o", files[-1]]) == 0
    where = str(tmp_path / "both")
    assert ssljax(["index", *files, "-o", where, "--kind", "exact", "--metric", "l2"]) == 0
    both = Collection.open(where)
    assert len(both) == 24 and both.item("20").columns["title"] == "Mug <b>20</b>"
    assert ssljax(["search", where, str(shop / "20.jpg"), "--top", "1"]) == 0
    assert "0.000" in capsys.readouterr().out
    assert "come more than once ('0'" in told(capsys, "index", files[0], shop / "all.npz", "-o", tmp_path / "x")
    with pytest.raises(SystemExit) as exit_:
        ssljax(["index", *files, "-o", where, "--kind", "annoy"])
    assert exit_.value.code == 2


def test_another_network_is_not_asked(shop, index, tmp_path, capsys):
    (tmp_path / "other.py").write_text(EXPERIMENT.format(name="other", folder=shop, split="test", seed=1))
    assert ssljax(["train", str(tmp_path / "other.py"), "--runs", str(tmp_path)]) == 0
    other, photo = tmp_path / "other", shop / "1.jpg"
    assert "was embedded by other weights than" in told(capsys, "search", index, photo, "--run", other)
    own = other / "embeddings" / "test.npz"
    assert "of different networks" in told(capsys, "index", shop / "all.npz", own, "-o", tmp_path / "x")
    assert ssljax(["index", str(own), "-o", str(tmp_path / "x")]) == 0
    other.rename(tmp_path / "moved")
    assert "is not there: name it by --run" in told(capsys, "search", tmp_path / "x", photo)
    assert ssljax(["search", str(tmp_path / "x"), str(photo), "--run", str(tmp_path / "moved")]) == 0


def test_evaluate_on_the_data_of_another_experiment(shop, run, tmp_path, capsys):
    (tmp_path / "train.py").write_text(EXPERIMENT.format(name="on_train", folder=shop, split="train", seed=0))
    before = (Path(run) / "results.json").read_bytes()
    assert ssljax(["evaluate", run, str(tmp_path / "train.py")]) == 0
    found = json.loads((Path(run) / "evaluation-on_train.json").read_text())
    assert set(found["table"]) == {"trained", "raw pixels"} and 0 <= found["table"]["trained"]["train/cmc@1"] <= 1
    assert "train/cmc@1" in capsys.readouterr().out and (Path(run) / "results.json").read_bytes() == before


def without_split(shop, folder: Path, split: str) -> None:
    """A catalogue in which a split is called "left_out", in a folder beside the same photos."""
    for photo in shop.glob("*.jpg"):
        (folder / photo.name).symlink_to(photo)
    (folder / "shop.csv").write_text((shop / "shop.csv").read_text().replace(f",{split}", ",left_out"))


def test_evaluate_demands_no_split_that_it_does_not_read(shop, run, tmp_path, capsys):
    other, data = tmp_path / "other.py", tmp_path / "data"
    data.mkdir()
    without_split(shop, data, "test")  # the run's gallery
    other.write_text(EXPERIMENT.format(name="other", folder=data, split="train", seed=0))
    assert ssljax(["evaluate", run, str(other)]) == 0
    assert "train/cmc@1" in capsys.readouterr().out
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    before = json.loads((copy / "results.json").read_text())["table"]
    for link in data.iterdir():
        link.unlink()
    without_split(shop, data, "train")
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace(str(shop / "shop.csv"), str(data / "shop.csv")))
    assert ssljax(["evaluate", str(copy)]) == 0
    assert json.loads((copy / "results.json").read_text())["table"] == before


def test_mistakes_are_one_sentence(shop, run, index, tmp_path, capsys):
    photo = shop / "1.jpg"
    assert "must end in .npz or .parquet" in told(capsys, "embed", run, shop / "shop.csv", "-o", tmp_path / "x.csv")
    assert "none.csv" in told(capsys, "embed", run, tmp_path / "none.csv")
    assert "is not a run folder" in told(capsys, "embed", tmp_path, shop / "shop.csv")
    for command in (("embed", run, shop / "shop.csv"), ("robustness", run)):
        assert "has no teacher to embed with" in told(capsys, *command, "--network", "teacher")
    assert "split 'holdout' is empty" in told(capsys, "embed", run, shop / "shop.csv", "--splits", "holdout")
    assert "holds no image" in told(capsys, "embed", run, tmp_path)
    for data in (tmp_path, shop / "shop.py"):
        assert "--id is an option for catalogue files" in told(capsys, "embed", run, data, "--id", "id")
    assert "data.images='nothing' is not a column" in told(
        capsys, "embed", run, shop / "shop.csv", "--images", "{nothing}.jpg"
    )
    assert "there are no embeddings" in told(capsys, "index", tmp_path / "none.npz", "-o", tmp_path / "x")
    assert "holds no embeddings" in told(capsys, "index", photo, "-o", tmp_path / "x")
    assert "cannot be written" in told(capsys, "index", shop / "all.npz", "-o", "/dev/null/x")
    assert "name at least one file of embeddings" in told(capsys, "index", "-o", tmp_path / "x")
    assert "names no file): choose another --html" in told(capsys, "search", index, photo, "--html", "")
    assert "holds other files" in told(capsys, "index", shop / "all.npz", "-o", shop)
    assert "is not a run folder, nor an index" in told(capsys, "search", tmp_path, photo)
    assert "top=0 is too small" in told(capsys, "search", index, photo, "--top", "0")
    assert "shop.csv cannot be read" in told(capsys, "search", index, shop / "shop.csv")
    assert "there is no experiment file" in told(capsys, "evaluate", run, tmp_path / "none.py")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_index_is_searched_changed_and_saved(number, shop, index, tmp_path):
    where, port, photo = shutil.copytree(index, tmp_path / "index"), free_port(), (shop / "5.jpg").read_bytes()
    command = [sys.executable, "-m", "ssljax.cli.main", "serve", str(where), "--port", str(port)]
    environment = os.environ | {"SSLJAX_TOKEN": "secret"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while True:
            assert process.poll() is None, process.stderr.read()
            try:
                assert client.get("/healthz").json()["items"] == 24
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        found = client.post("/search?k=2", content=photo).json()["items"]
        assert found[0]["id"] == "5" and found[0]["score"] == pytest.approx(1, abs=1e-4)
        assert client.get(found[0]["photo"]).headers["content-type"] == "image/jpeg"
        token = {"authorization": "Bearer secret"}
        assert client.post("/items", data={"id": "new"}, files={"photo": photo}, headers=token).status_code == 201
        assert {i["id"] for i in client.post("/search?k=2", content=photo).json()["items"]} == {"5", "new"}
        again = subprocess.run([*command[:-1], str(free_port())], env=environment, capture_output=True, text=True)
        assert again.returncode == 2 and "is being changed by another process" in again.stderr
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert re.search(rf"24 items\. Compiling \.\.\.\n.*\nReady after \d+ s: http://127\.0\.0\.1:{port}\n", errors)
    assert len(Collection.open(where)) == 25 and len(list(where.glob("items-*"))) == 1


def test_mistakes_in_serving_are_one_sentence(shop, run, index, tmp_path, capsys):
    assert "is not a run folder, nor an index" in told(capsys, "serve", tmp_path)
    assert "port=0 must be above 0 and at most 65535" in told(capsys, "serve", index, "--port", "0")
    assert "limits.k=0 must be above 0" in told(capsys, "serve", index, "--limits.k", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port={port} cannot be used" in told(capsys, "serve", index, "--port", port)
    assert ssljax(["search", index, str(shop / "1.jpg")]) == 0  # nobody holds it


def test_the_title_column_of_the_run_is_that_of_the_service(shop, run, tmp_path):
    """Of a run whose titles are in another column than "title", as `Catalogue.title` says."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    config = json.loads((copy / "config.json").read_text())
    config["data"]["title"] = "name"
    (copy / "config.json").write_text(json.dumps(config))
    own = Embeddings.load(copy / "embeddings" / "test.npz")
    names = {"name": own.columns["title"]}
    save_collection(tmp_path / "index", Exact(), dataclasses.replace(own, columns=names))
    searched = Searched.of(tmp_path / "index", copy, to_change=True)
    with contextlib.closing(searched.collection) as collection:
        collection.put("new", own.vectors[0], {"name": "Red mug"})
        collection.put("both", own.vectors[0], {"name": "Red mug", "title": "Blue mug"})
        collection.put("none", own.vectors[0], {})
        assert [collection.item(id).caption(id) for id in ("new", "both", "none")] == ["Red mug", "Blue mug", "none"]
        assert collection.item(own.ids[0]).caption(own.ids[0]) == f"Mug <b>{own.ids[0]}</b>"


def piped(command: str, **environment: str) -> subprocess.CompletedProcess:
    """What a shell makes of `command`, in which $SSLJAX is the command line's program; its code is ssljax's own."""
    program = f"{shlex.quote(sys.executable)} -m ssljax.cli"
    shell = f"set -o pipefail; {command.replace('$SSLJAX', program)}"
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "JAX_COMPILATION_CACHE_DIR") if name in os.environ
    }
    return subprocess.run(["bash", "-c", shell], env=kept | environment, capture_output=True, text=True, cwd=Path.cwd())


def test_output_that_nobody_reads_ends_it_without_a_word(shop, index, tmp_path):
    build = f"$SSLJAX index {shop}/all.npz --kind exact -o {tmp_path}/piped | true"
    gone = piped(build, PYTHONUNBUFFERED="1", HOME="/nonexistent", TMPDIR="/nonexistent", LANG="C")
    assert gone.returncode == 1 and not re.search("Traceback|Broken|Exception", gone.stderr), gone.stderr
    assert len(Collection.open(tmp_path / "piped")) == 24  # it was built


@pytest.mark.slow
def test_odd_places_of_output_and_bare_environments(shop, index, tmp_path):
    where, photos = shlex.quote(index), shlex.join(str(shop / f"{i}.jpg") for i in (5, 6))
    search, build = f"$SSLJAX search {where} {photos}", f"$SSLJAX index {shop}/all.npz --kind exact -o {tmp_path}"
    for unbuffered in ("", "1"):
        gone = piped(f"{search} | true", PYTHONUNBUFFERED=unbuffered)
        assert gone.returncode == 1 and not re.search("Traceback|Broken|Exception", gone.stderr), gone.stderr
    closed = piped(f"{search} >&- && {build}/closed >&- 2>&- <&-", HOME="/nonexistent", TMPDIR="/nonexistent")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    assert len(Collection.open(tmp_path / "closed")) == 24
    plain = piped(search, LANG="C", PYTHONIOENCODING="ascii", HOME="/dev/null")
    assert plain.returncode == 0 and "| 1  | 1.000 | 6  | Mug <b>6</b>" in plain.stdout, plain.stdout + plain.stderr
