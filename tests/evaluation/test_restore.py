"""A run folder is restored by its config.json and weights; its code is executed only with --trust-code."""

import json
import shutil

import numpy as np
import pytest

from ssljax.cli.main import run as ssljax
from ssljax.evaluation.restore import NETWORK_ALONE, Restored, Untrusted, read_experiment
from ssljax.training.run_folder import Run
from ssljax.types import UserError

EXPERIMENT = """
from dataclasses import dataclass
from pathlib import Path
from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Retrieval
from ssljax.methods import SimCLR
from ssljax.models import MLP, ResNet
from ssljax.optim import SGD
from ssljax.search import Exact
from ssljax.views import TwoCrops

Path(__file__).with_name("executed").touch()

class Mine(ResNet):
    pass

@dataclass(frozen=True)
class Shop(ToyCatalogue):
    pass

config = Experiment(
    name="mine",
    data=Shop(listings=32, photos=3, size=32),
    views=TwoCrops(size=16, jitter=0.0, grey=0.0, blur=0.0),
    method=SimCLR(encoder=Mine(depth=10, stem="imagenet", width=4), projector=MLP(hidden=(16,), out=8)),
    optimizer=SGD(lr=0.05),
    epochs=1,
    batch_size=16,
    photo_size=20,
    baselines=False,
    index=Exact(),
)
"""
REFUSED = "config.json names 'Mine', which is not one of ssljax's own classes: if you trust who made the run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """A run with a source and an encoder of its own."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(EXPERIMENT)
    assert ssljax(["train", str(folder / "mine.py"), "--runs", str(folder)]) == 0
    return Run(folder / "mine")


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """A copy of it, which shows if its code is executed."""
    copy = Run(shutil.copytree(trained.path, tmp_path / "mine"))
    (copy.path / "executed").unlink(missing_ok=True)
    return copy


def executed(run: Run) -> bool:
    return (run.path / "executed").exists()


def edit(run: Run, *words: str) -> None:
    """Replaces a word in config.json by the next one."""
    run.config.write_text(run.config.read_text().replace(*words))


def test_baselines_can_be_left_out(trained):
    results = json.loads(trained.results.read_text())
    assert list(results["table"]) == ["trained"] and results["table"]["trained"] and not results["verdict"]
    assert "raw pixels" not in trained.report.read_text()


@pytest.mark.parametrize("command", ["search", "embed", "evaluate", "report", "robustness", "compare", "serve"])
def test_an_encoder_of_ones_own_is_named_and_its_code_not_executed(command, run, tmp_path, capsys):
    more = {"search": ["x.png"], "embed": ["x.csv"], "compare": [str(tmp_path / "other")]}
    edit(run, '"Shop"', '"ToyCatalogue"')
    assert ssljax([command, str(run.path), *more.get(command, [])]) == 2
    assert REFUSED in capsys.readouterr().err and not executed(run)


def test_with_trust_code_it_is_executed(run, capsys):
    photo = str(next(iter(run.samples.glob("*.png"))))
    assert ssljax(["search", str(run.path), photo, "--trust-code"]) == 0
    assert executed(run) and "score" in capsys.readouterr().out


def test_a_source_of_ones_own_is_no_hindrance_to_search(run, tmp_path, capsys):
    edit(run, '"Mine"', '"ResNet"')
    photo = str(next(iter(run.samples.glob("*.png"))))
    assert ssljax(["search", str(run.path), photo, "--html", str(tmp_path / "found.html")]) == 0
    assert ssljax(["report", str(run.path)]) == 2
    assert "names 'Shop', which is not one of ssljax's own classes" in capsys.readouterr().err
    assert isinstance(read_experiment(run, NETWORK_ALONE).data, Untrusted)
    with pytest.raises(UserError, match=r"names 'Shop', .* --trust-code runs"):
        Restored.of(run).embed(["test"])
    edit(run, '"Shop"', '"ToyCatalogue"')
    embeddings = Restored.of(run).embed(["test"])
    with np.load(run.embeddings("test")) as saved:
        np.testing.assert_allclose(embeddings.vectors, saved["vectors"], atol=1e-5)
    assert ssljax(["report", str(run.path)]) == 0
    assert not executed(run)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (('"Mine"', '"os.system"'), "names 'os.system', which is not one"),
        (
            ('"width"', '"breadth"'),
            r"ResNet has no field 'breadth' in this version of ssljax\): use the one that wrote it",
        ),
        (('"SimCLR"', '"ToyCatalogue"'), "does not suit this version of ssljax"),
        (('"class": "Experiment"', '"class": "SGD"'), "does not suit this version of ssljax"),
        (('"class": "Experiment",', ""), r"is damaged \(it has no class\)"),
        (('"method":', '"way":'), r"is damaged \(it has no method\)"),
        (("{", ""), "is damaged"),
        (('"epochs": 1', '"epochs": "many"'), "epochs='many' must be a whole number"),
    ],
    ids=str,
)
def test_a_config_that_is_not_one_is_refused_in_a_sentence(words, sentence, run):
    edit(run, *words)
    edit(run, '"Mine"', '"ResNet"')
    with pytest.raises(UserError, match=sentence):
        Restored.of(run)
    assert not executed(run)
