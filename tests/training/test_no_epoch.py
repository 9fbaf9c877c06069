"""With epochs=0 an imported encoder is evaluated, embedded and indexed as it is, and is a run like any other."""

import dataclasses
import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from ssljax import train
from ssljax.cli.main import run as ssljax
from ssljax.config import Experiment, resolved
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Embeddings, Retrieval
from ssljax.methods import SEED, FrozenTeacher
from ssljax.models import MLP, Pretrained, ResNet
from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.names import to_timm
from ssljax.training.export import start_of, verdict
from ssljax.training.run_folder import Run
from ssljax.types import UserError

FILE = """
import dataclasses
import tiny
from ssljax.evaluation import Retrieval
from ssljax.methods import SimCLR
from ssljax.models import Frozen, Preprocessing, Pretrained
encoder = Pretrained(tiny.ENCODER, {weights!r}, preprocessing=Preprocessing(mean=(0.5, 0.4, 0.3)))
config = dataclasses.replace(
    tiny.EXPERIMENT, name="imported", method=SimCLR(encoder=encoder), epochs=0, monitor=(), evaluate=(Retrieval(),)
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a run of no epoch, and the experiment's file; the weights' file is no longer there."""
    folder = tmp_path_factory.mktemp("imported")
    init = functools.partial(tiny.ENCODER.init, train=False)
    variables = flatten_dict(jax.jit(init)(jax.random.PRNGKey(7), jnp.ones((1, 16, 16, 3))), sep="/")
    weights = folder / "theirs.safetensors"
    save_file(to_timm(layout_of(tiny.ENCODER), {name: np.asarray(x) for name, x in variables.items()}), weights)
    (folder / "imported.py").write_text(FILE.format(weights=str(weights)))
    assert ssljax(["train", str(folder / "imported.py"), "--runs", str(folder)]) == 0
    weights.rename(folder / "elsewhere")
    return folder


@pytest.fixture
def run(folder) -> Run:
    """That run."""
    return Run(folder / "imported")


def test_it_leaves_what_a_finished_run_leaves(run):
    results = json.loads(run.results.read_text())
    assert list(results["table"]) == ["trained", "raw pixels"] and results["steps"] == 0
    assert results["config"]["views"]["mean"] == [0.5, 0.4, 0.3]
    assert run.weights("student").is_file() and len(Embeddings.load(run.embeddings("test"))) > 0
    with safe_open(run.weights("student"), framework="numpy") as file:
        assert json.loads(file.metadata()["preprocessing"])["mean"] == [0.5, 0.4, 0.3]
    page = run.report.read_text()
    assert "imported</th>" in page and "trained</th>" not in page


def test_every_command_takes_it(run, folder, capsys):
    photo = str(next(iter(run.samples.glob("*.png"))))
    assert ssljax(["embed", str(run.path), str(run.samples), "-o", str(folder / "e.npz")]) == 0
    assert ssljax(["index", str(folder / "e.npz"), "-o", str(folder / "index")]) == 0
    assert ssljax(["search", str(run.path), photo]) == 0
    assert ssljax(["report", str(run.path)]) == 0
    os.rename(folder / "elsewhere", folder / "theirs.safetensors")
    capsys.readouterr()
    assert ssljax(["evaluate", str(run.path)]) == 0
    assert "imported" in capsys.readouterr().out
    assert ssljax(["train", str(folder / "imported.py"), "--runs", str(folder)]) == 0
    assert "imported" in capsys.readouterr().out
    assert ssljax(["train", str(folder / "imported.py"), "--runs", str(folder), "--epochs", "1"]) == 0
    assert list(json.loads(run.results.read_text())["table"]) == ["trained", "imported", "raw pixels"]


def test_it_needs_no_whole_batch_of_photos(tmp_path):
    few = dataclasses.replace(
        tiny.EXPERIMENT, method=tiny.SIMCLR, epochs=0, batch_size=256, monitor=(), evaluate=(Retrieval(),)
    )
    run = train(few, tmp_path).run
    assert len(Embeddings.load(Run(run).embeddings("test"))) > 0
    with pytest.raises(UserError, match="batch_size=256 is larger than the train split's"):
        train(dataclasses.replace(few, epochs=1), tmp_path)


def test_an_export_by_its_code_has_the_views_that_suit_the_encoder(run, tmp_path):
    """The file leaves mean and std to the encoder; what is written is compared with the embeddings."""
    pytest.importorskip("flatbuffers")
    for options in ([], ["--trust-code"]):
        assert ssljax(["export", str(run.path), "--to", "stablehlo", "-o", str(tmp_path), *options]) == 0
        assert json.loads((tmp_path / "preprocessing.json").read_text())["mean"] == [0.5, 0.4, 0.3]


def test_the_verdict_does_not_speak_of_training():
    table = {"trained": {"test/cmc@1": 0.2}, "raw pixels": {"test/cmc@1": 0.3}}
    imported = Experiment(name="x", epochs=0, method=tiny.MOCO, evaluate=(Retrieval(),))
    assert verdict(imported, table) == [
        "The untrained network finds less than raw pixels (0.300): its test/cmc@1 is 0.200."
    ]
    assert verdict(imported, table | {"raw pixels": {"test/cmc@1": 0.1}}) == []


def test_a_student_that_only_a_teacher_from_a_file_teaches_is_untrained():
    teacher = FrozenTeacher(
        encoder=Pretrained(ResNet(18), "a.safetensors"), projector=Pretrained(MLP(), "a.safetensors")
    )
    for encoder, start in ((ResNet(18), "untrained"), (Pretrained(ResNet(18), "b.safetensors"), "imported")):
        method = SEED(encoder=encoder, teacher=teacher)
        assert start_of(resolved(Experiment(name="taught", data=ToyCatalogue(), method=method))) == start
