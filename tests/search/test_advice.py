"""The advice follows from what was measured, and what was measured is of the user's own vectors."""

import dataclasses
import importlib.util
import shlex

import numpy as np
import pytest
from PIL import Image

from ssljax.cli.index_advice import command_to_build
from ssljax.cli.main import run
from ssljax.evaluation import Embeddings
from ssljax.search import Exact, Faiss, ScaNN, advice
from ssljax.search.advice import Row, index_advice, recommended
from ssljax.types import UserError


def row(kind, recall, qps, updates=1e6, builder=Exact()):  # noqa: B008
    return Row(kind, builder, recall, qps, 1.0, 2.0, 1.0, 1.0, updates)


ROWS = [
    row("exact", 1.0, 100),
    row("tree", 0.9, 9000, builder=ScaNN()),
    row("tree", 0.96, 5000, 10, builder=ScaNN(leaves=9)),
    row("graph", 0.955, 4000, builder=Faiss()),
    row("graph", 0.99, 3900, builder=Faiss(effort=9)),
]


@pytest.mark.parametrize(
    ("recall", "updates", "builder", "says"),
    [
        (0.95, 0, ScaNN(leaves=9), "5,000 queries a second at recall@10 0.960"),
        (0.9, 0, ScaNN(), "the most of those with at least 0.9; next is graph, 3,900"),
        (0.95, 1000, Faiss(effort=9), "keep up with 1,000 updates"),
        (0.97, 0, Faiss(effort=9), "graph answers 3,900 queries a second at recall@10 0.990, the most of those"),
        (0.999, 0, Exact(), "exact answers 100"),
        (0.95, 1e9, Exact(), "none keeps up with 1,000,000,000"),
    ],
)
def test_the_quickest_that_finds_enough_and_keeps_up(recall, updates, builder, says):
    found = recommended(ROWS, recall, updates)
    assert found.builder == builder and says in found.reason


def test_what_is_shown_and_what_is_said_agree():
    rows = [*ROWS, row("flat", 0.96, 5100), row("flat", 0.951, 5200)]
    found = recommended(rows, 0.95, 0)
    assert [(r.kind, r.qps) for r in found.shown] == [("exact", 100), ("tree", 5000), ("graph", 3900), ("flat", 5100)]
    assert found.reason.startswith("flat answers 5,100") and found.reason.endswith("next is tree, 5,000")
    rows = [*ROWS, row("flat", 0.951, 5200)]
    found = recommended(rows, 0.95, 0)
    assert found.builder == ScaNN(leaves=9)  # within 5 % of the quickest
    assert found.reason.endswith("as quick within 5 % as flat (5,200 at 0.951), and finds more")
    found = recommended(ROWS[1:], 0.98, 1e9)  # what finds too little is shown by what it finds at best
    assert [(r.kind, r.recall) for r in found.shown] == [("tree", 0.96), ("graph", 0.99)]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(advice, "SECONDS", 1e-6)
    monkeypatch.setattr(advice, "SINGLE", 2)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_all_kinds_are_measured(quick, metric):
    told = []
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 16))[rng.integers(0, 20, 2000)] + 0.2 * rng.standard_normal((2000, 16))
    found = index_advice(x, metric=metric, progress=told.append)
    kinds = {r.kind: r for r in found.rows}
    assert list(kinds) == told and kinds["Exact"].recall == 1 and found.builder in [r.builder for r in found.rows]
    if importlib.util.find_spec("scann"):
        assert {"ScaNN, brute force", "ScaNN, AH", "ScaNN, tree + AH"} <= set(kinds)
        assert ("ScaNN, tree + AH, SOAR" in kinds) == (metric == "cosine")
        assert kinds["ScaNN, brute force"].recall > 0.999 and kinds["ScaNN, tree + AH"].recall > 0.9
    for r in found.rows:
        assert r.builder.metric == metric and 0 < r.recall <= 1
        assert all(v >= 0 for v in dataclasses.astuple(r)[3:]) and r.memory_mib > 0.1 and r.updates_per_hour > 0


def test_bad_wishes():
    x = np.random.default_rng(0).standard_normal((30, 4))
    for wish, says in (
        (dict(recall=0), "recall=0"),
        (dict(recall=1.1), "at most 1"),
        (dict(updates_per_hour=-1), "-1"),
    ):
        with pytest.raises(UserError, match=says):
            index_advice(x, **wish)
    with pytest.raises(UserError, match="at least 20"):
        index_advice(x[:19])


@pytest.mark.parametrize(
    "builder",
    [Exact("dot"), ScaNN("l2", leaves=3, leaves_to_search=2, reorder=30), ScaNN(brute=True), Faiss(method="flat")],
)
def test_the_command_to_paste_builds_that_very_index(builder, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("ssljax.cli.index.save_collection", lambda folder, settings, _: built.append(settings))
    Embeddings(np.array(["a", "b"], object), np.eye(2, dtype=np.float32)).save(tmp_path / "my items.npz")
    program, *arguments = shlex.split(command_to_build(tmp_path / "my items.npz", builder))
    assert program == "ssljax" and run(arguments) == 0 and built == [builder]


def test_scann_builds_in_silence(capfd):
    if not importlib.util.find_spec("scann"):
        pytest.skip("ScaNN is for Linux")
    x = np.random.default_rng(0).standard_normal((300, 8), np.float32)
    ScaNN(leaves=10, reorder=20).build(range(300), x).search(x[:1], 5)
    assert capfd.readouterr() == ("", "")


def test_the_command(quick, tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((300, 8), np.float32)
    Embeddings(np.array([f"{i}" for i in range(300)], object), x).save(tmp_path / "e.npz")
    picture = tmp_path / "picture.png"
    assert run(["index-advice", str(tmp_path / "e.npz"), "--recall", "0.9", "-o", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "queries a second at recall@10" in out and "…" not in out and "updates" in out
    command = next(line for line in out.splitlines() if line.startswith("ssljax index "))
    assert run([*shlex.split(command)[1:3], "-o", str(tmp_path / "index"), *shlex.split(command)[5:]]) == 0
    assert Image.open(picture).size == (960, 600)
    assert run(["index-advice", str(tmp_path / "none.npz")]) == 2
    assert "there are no embeddings" in capsys.readouterr().err
    assert run(["index-advice", str(tmp_path / "e.npz"), "-o", "x.jpg"]) == 2
    assert "must end in .png" in capsys.readouterr().err
