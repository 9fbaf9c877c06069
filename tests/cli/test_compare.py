"""`ssljax compare` and `ssljax report` on run folders that are put together by hand, and users' mistakes."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from pages import Page, loads_nothing

from ssljax.cli.main import run as ssljax
from ssljax.config import resolved
from ssljax.data.atomic_files import write_json
from ssljax.evaluation import Embeddings
from ssljax.methods import MoCo
from ssljax.models import MLP, Pretrained, ViT, cls_attention, weights_bytes
from ssljax.report import finished_run
from ssljax.training import export as finish
from ssljax.training.experiment_file import load_experiments
from ssljax.training.run_folder import Run

EXPERIMENT = """
from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Retrieval, Whitening
from ssljax.views import TwoCrops

config = Experiment(name="{name}", data=ToyCatalogue(listings=48), views=TwoCrops(size=16), photo_size=20,
                    evaluate=({evaluate}))
"""
TABLE = {"table": {"trained": {"test/cmc@1": 0.5}, "raw pixels": {"test/cmc@1": 0.4}}}


def make(folder: Path, noise: float, *, evaluate: str = "Retrieval(),", splits: tuple[str, ...] = ("test",)) -> Run:
    """A run whose embeddings are its listings' with noise."""
    run = Run(folder)
    folder.mkdir(parents=True)
    run.source.write_text(EXPERIMENT.format(name=folder.name, evaluate=evaluate))
    write_json(run.options, {"arguments": [], "position": None})
    write_json(run.environment, {"device": "cpu"})
    write_json(run.results, TABLE)
    experiment, _ = load_experiments(run.source)
    write_json(run.config, resolved(experiment))
    for split in splits:
        items = experiment.data.load(split)
        rng = np.random.default_rng(round(100 * noise))
        centres = np.random.default_rng(0).normal(size=(48, 6))
        vectors = centres[items.listing] + noise * rng.normal(size=(len(items), 6))
        Embeddings.of(items, vectors).save(run.embeddings(split))
    return run


@pytest.fixture
def runs(tmp_path, monkeypatch) -> tuple[Run, Run]:
    monkeypatch.chdir(tmp_path)
    return make(tmp_path / "good", 0.3), make(tmp_path / "bad", 1.5)


def message(capsys, *arguments: object) -> str:
    """What a command says of a mistake: one line."""
    assert ssljax([str(a) for a in arguments]) == 2
    text = capsys.readouterr().err.strip()
    assert "\n" not in text and "Traceback" not in text
    return text


def test_two_runs_are_compared(runs, capsys):
    assert ssljax(["compare", "good", "bad", "-o", "pages/c.html", "--by", "colour"]) == 0
    said = capsys.readouterr().out
    html = Path("pages/c.html").read_text()
    loads_nothing(html)
    page = Page(html)
    assert "cmc@1" in said and "map@r" in said and "pages/c.html" in said
    assert len(page.of("table")) == 1 and page.of("i", "t") and page.of("details")
    assert any(text == "good and bad" for text in page.texts)
    assert any(text.startswith("bad finds a right one first less often than good: ") for text in page.texts)
    record = json.loads(Path("pages/c.json").read_text())
    assert record["runs"] == ["good", "bad"] and "--by colour" in record["command"]
    found, (a, b) = record["differences"]["cmc@1"], (means["cmc@1"] for means in record["means"])
    assert found["low"] <= found["mean"] == pytest.approx(b - a) and found["high"] < 0


def test_embeddings_are_compared_as_they_are_whatever_the_evaluator_does_to_them(runs, tmp_path):
    make(tmp_path / "white", 0.3, evaluate="Retrieval(after=(Whitening(dim=2),)),")  # without the split it is fitted to
    ssljax(["compare", "good", "white"])
    found = json.loads(Path("compare.json").read_text())["differences"]["cmc@1"]
    assert found["mean"] == found["better"] == found["worse"] == 0


def test_photos_that_one_run_has_alone_are_counted(runs):
    part = Embeddings.load(runs[0].embeddings("test"))
    part.select(np.arange(2, len(part))).save(runs[0].embeddings("test"))
    assert ssljax(["compare", "good", "bad"]) == 0
    assert "2 of bad" in Page(Path("compare.html").read_text()).texts


def test_runs_of_one_name_are_told_apart_by_their_paths(runs):
    make(Path("other/good"), 0.9)
    assert ssljax(["compare", "good", "other/good"]) == 0
    assert "good and other/good" in Page(Path("compare.html").read_text()).texts


def test_mistakes_of_a_comparison_are_one_sentence(runs, capsys, tmp_path):
    assert "good is named twice" in message(capsys, "compare", "good", tmp_path / "good")
    assert "is not a run folder" in message(capsys, "compare", "good", "none")
    assert "most=0" in message(capsys, "compare", "good", "bad", "--most", 0)
    assert "lies in a run folder" in message(capsys, "compare", "good", "bad", "-o", "good/results.html")
    assert "must end in .html" in message(capsys, "compare", "good", "bad", "-o", "c.png")
    assert "by='color' is no column of the data: did you mean 'colour'" in message(
        capsys, "compare", "good", "bad", "--by", "color"
    )
    Path("file").touch()
    assert "cannot be written" in message(capsys, "compare", "good", "bad", "-o", "file/c.html")
    make(Path("label"), 0.9, evaluate="Retrieval(relevant='shape'),")
    assert "Retrieval.relevant is 'listing' in good and 'shape' in label" in message(capsys, "compare", "good", "label")
    make(Path("val"), 0.9, evaluate="Retrieval(split='val'),", splits=("val",))
    assert "Retrieval.split is 'test' in good and 'val' in val" in message(capsys, "compare", "good", "val")
    make(Path("nothing"), 0.9, evaluate="")
    assert "evaluate has no Retrieval" in message(capsys, "compare", "nothing", "good")
    runs[1].embeddings("test").write_bytes(b"PK\x03\x04")
    assert "is damaged" in message(capsys, "compare", "good", "bad")
    runs[1].embeddings("test").unlink()
    assert "there are no embeddings" in message(capsys, "compare", "good", "bad")
    runs[1].results.unlink()
    assert "bad is not complete" in message(capsys, "compare", "good", "bad")
    assert not Path("compare.html").exists()


def test_runs_on_other_data_are_not_compared(runs, capsys):
    part = Embeddings.load(runs[1].embeddings("test"))
    names = np.array([f"x{item}" for item in part.ids], object)
    Embeddings(names, part.vectors, part.columns, listing=part.listing).save(runs[1].embeddings("test"))
    assert "no item of split 'test' is in both runs" in message(capsys, "compare", "good", "bad")


def test_a_report_of_another_gallery_shows_its_photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = "Retrieval(relevant='colour', split='test', gallery='val', by='pattern'),"
    run = make(tmp_path / "both", 0.9, evaluate=both, splits=("test", "val"))
    assert finish.saved_splits(load_experiments(run.source)[0]) == {"test", "val"}
    assert ssljax(["report", "both", "--most", "2"]) == 0
    page = Page(run.report.read_text())
    listed = {a["title"] for a in page.of("i", "t")}
    titles = [set(Embeddings.load(run.embeddings(split)).columns["title"]) for split in ("test", "val")]
    assert listed & (titles[0] - titles[1]) and listed & (titles[1] - titles[0])
    names = set(Embeddings.load(run.embeddings("test")).columns["pattern"])
    assert {text for text in page.texts if text in names}
    assert ssljax(["compare", "both", str(shutil.copytree("both", "again"))]) == 0


def test_mistakes_of_a_report_are_one_sentence(runs, capsys):
    assert "most=0" in message(capsys, "report", "good", "--most", 0)
    assert "by='color' is no column of the data" in message(capsys, "report", "good", "--by", "color")
    runs[0].embeddings("test").unlink()
    assert "there are no embeddings" in message(capsys, "report", "good")


def test_categories_are_columns_or_the_numbers_of_labels_and_listings(runs):
    experiment, _ = load_experiments(runs[0].source)
    items, part = experiment.data.load("test"), Embeddings.load(runs[0].embeddings("test"))
    assert finished_run.kinds(experiment, items, part, None) == part.columns["shape"].tolist()
    assert finished_run.kinds(experiment, items, part, "colour") == part.columns["colour"].tolist()
    bare = dataclasses.replace(part, columns={}, label=None)
    assert finished_run.kinds(experiment, items, bare, None) is None
    assert finished_run.kinds(experiment, items, bare, "listing") == [str(number) for number in part.listing]


def test_a_vision_transformer_shows_what_its_student_looks_at(runs):
    vit, projector = ViT(width=8, depth=1, heads=2, patch=4), MLP(hidden=(), out=4)
    with open(runs[0].source, "a") as file:
        file.write(
            "\nimport dataclasses\nfrom ssljax.methods import MoCo\nfrom ssljax.models import MLP, ViT\n"
            "encoder = ViT(width=8, depth=1, heads=2, patch=4)\n"
            "config = dataclasses.replace(config, method=MoCo(encoder=encoder, projector=MLP(hidden=(), out=4)))\n"
        )
    experiment, _ = load_experiments(runs[0].source)
    write_json(runs[0].config, resolved(experiment))
    items = experiment.data.load("test")
    assert finished_run._attention(runs[0], experiment, items) is None  # its weights are not there
    view = jax.numpy.zeros((1, 16, 16, 3))
    variables = {"encoder": jax.jit(functools.partial(vit.init, train=False))(jax.random.PRNGKey(3), view)}
    runs[0].weights("student").parent.mkdir()
    runs[0].weights("student").write_bytes(weights_bytes(jax.device_get(variables)))
    assert ssljax(["report", "good"]) == 0
    html = runs[0].report.read_text()
    loads_nothing(html)
    assert 'id="attention"' in html and html.count("all heads, 1") == finished_run.ATTENDED
    shown = finished_run._attention(runs[0], experiment, items)
    assert shown.photos.shape == (finished_run.ATTENDED, 16, 16, 3) and shown.maps.shape == (
        finished_run.ATTENDED,
        2,
        4,
        4,
    )
    views = experiment.normalised_views
    normal = (shown.photos / 255 - np.array(views.mean)) / np.array(views.std)
    again = jax.jit(functools.partial(cls_attention, vit))(variables["encoder"], normal.astype(np.float32))
    np.testing.assert_allclose(shown.maps, again, atol=1e-3)
    wrapped = MoCo(encoder=Pretrained(vit, None), projector=projector)
    same = finished_run._attention(runs[0], type(experiment)(**vars(experiment) | {"method": wrapped}), items)
    np.testing.assert_array_equal(same.maps, shown.maps)


def test_a_run_with_a_damaged_results_file_is_told(runs, capsys):
    runs[1].results.write_text(json.dumps({"table": {}}))
    assert "is damaged" in message(capsys, "compare", "good", "bad")
