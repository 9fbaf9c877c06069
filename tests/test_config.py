"""Experiments that make no sense, and files that cannot be run, are one sentence."""

import dataclasses

import pytest

from ssljax.config import Experiment
from ssljax.data import ToyCatalogue
from ssljax.evaluation import Copydays, PairAP, Retrieval, Revisited, ShopeeF1
from ssljax.optim import LARS, SGD, Adam
from ssljax.training.experiment_file import load_experiments
from ssljax.types import UserError
from ssljax.views import Augmentation, TwoCrops

WRONG = {
    "epochs": (lambda: Experiment(name="x", epochs="3"), "epochs='3' must be a whole number"),
    "batch size": (lambda: Experiment(name="x", batch_size=2.5), "batch_size=2.5 must be a whole number"),
    "bool": (lambda: Experiment(name="x", threads=True), "threads=True must be a whole number"),
    "data": (lambda: Experiment(name="x", data="x.csv"), "data='x.csv' must be a source of photos"),
    "data class": (lambda: Experiment(name="x", data=ToyCatalogue), "data=ToyCatalogue is a class: write"),
    "views": (lambda: Experiment(name="x", views=Augmentation()), "views=Augmentation(...) must be views"),
    "method": (
        lambda: Experiment(name="x", method=None),
        "method=None must be a method, such as MoCo(), but has no init",
    ),
    "optimizer": (lambda: Experiment(name="x", optimizer=0.1), "optimizer=0.1 must be an optimizer"),
    "index": (lambda: Experiment(name="x", index="scann"), "index='scann' must be an index"),
    "evaluate": (lambda: Experiment(name="x", evaluate=Retrieval()), "evaluate=Retrieval(...) must be a tuple: try"),
    "evaluator": (
        lambda: Experiment(name="x", monitor=(len,)),
        "monitor.0=<built-in function len> must be an evaluator",
    ),
    "gallery": (lambda: Experiment(name="x", gallery="test"), "gallery='test' must be a tuple of texts: try ('test',)"),
    "gallery twice": (lambda: Experiment(name="x", gallery=("test", "test")), "names a split twice"),
    "share": (lambda: Experiment(name="x", max_bad_share=float("nan")), "max_bad_share=nan must be a finite number"),
    "seed": (lambda: Experiment(name="x", seed=-1), "seed=-1 is too small: it must be at least 0"),
    "large seed": (lambda: Experiment(name="x", seed=2**32), "seed=4294967296 is too large"),
    "name": (lambda: Experiment(name="a\0b"), r"name='a\x00b' cannot name a folder"),
    "name type": (lambda: Experiment(name=5), "name=5 must be a text"),
    "lr": (lambda: SGD(lr=-1.0), "optimizer.lr=-1.0 must be above 0"),
    "lr NaN": (lambda: SGD(lr=float("nan")), "optimizer.lr=nan must be a finite number"),
    "lr text": (lambda: SGD(lr="0.1"), "optimizer.lr='0.1' must be a finite number"),
    "momentum": (lambda: SGD(lr=1, momentum=2), "optimizer.momentum=2 must be in [0, 1)"),
    "b2": (lambda: Adam(lr=1, b2=1.0), "optimizer.b2=1.0 must be in [0, 1)"),
    "decay": (lambda: SGD(lr=1, weight_decay=-0.1).build(10), "optimizer.weight_decay=-0.1 must be at least 0"),
    "clip": (lambda: SGD(lr=1, clip_norm=0), "optimizer.clip_norm=0 must be above 0"),
    "trust": (lambda: LARS(lr=1, trust_coefficient=0.0), "optimizer.trust_coefficient=0.0 must be above 0"),
    "std": (lambda: TwoCrops(std=(0.2, 0.0, 0.2)), "views.std=(0.2, 0.0, 0.2) must be above 0"),
    "evaluation size": (
        lambda: TwoCrops(evaluation_size=0),
        "views.evaluation_size=0 is too small: it must be at least 2",
    ),
    "second": (lambda: TwoCrops(second="weak"), "views.second='weak' must be an Augmentation"),
    "scale": (lambda: TwoCrops(scale=0.2), "views.scale=0.2 must be 2 finite numbers"),
}


@pytest.mark.parametrize("make, sentence", WRONG.values(), ids=WRONG)
def test_senseless_values_are_named(make, sentence):
    with pytest.raises(UserError) as caught:
        make()
    assert sentence in str(caught.value)


def test_protocols_are_evaluators():
    protocols = (PairAP(), ShopeeF1(), Copydays(), Revisited("gnd_roxford5k.pkl"))
    assert Experiment(name="x", evaluate=protocols).evaluate == protocols


def test_lists_do_where_tuples_are_due():
    listed = Experiment(name="x", evaluate=[Retrieval(ks=[1, 5])], gallery=["test"], views=TwoCrops(scale=[0.2, 1.0]))
    assert listed == Experiment(name="x", evaluate=(Retrieval(ks=(1, 5)),), views=TwoCrops(scale=(0.2, 1.0)))
    assert dataclasses.replace(listed, epochs=1).gallery == ("test",)


IMPORT = "from ssljax.config import Experiment\n"
FILES = {
    "exception": ("x = 1\n\ny = x / 0", "e.py cannot be run: ZeroDivisionError: division by zero (line 3)"),
    "exit": ("import sys\nsys.exit(3)", "e.py cannot be run: SystemExit: 3 (line 2)"),
    "deep": ("import json\njson.loads('{')", "e.py cannot be run: JSONDecodeError: "),
    "deep line": ("import json\njson.loads('{')", "(line 2)"),
    "syntax": ("x = 1\nx = = 2", "e.py cannot be run: SyntaxError: invalid syntax (line 2)"),
    "import": ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found' (line 1)"),
    "our own": (IMPORT + "config = Experiment(name='x', epochs=-1)", "e.py, line 2: epochs=-1 is too small"),
    "unknown field": (
        IMPORT + "config = Experiment(name='x', epoch=1)",
        "e.py, line 2: Experiment has no field 'epoch': did you mean 'epochs'? There are name, data,",
    ),
    "replaced": (
        "import dataclasses\n" + IMPORT + "config = dataclasses.replace(Experiment(name='x'), epoch=1)",
        "e.py, line 3: Experiment has no field 'epoch'",
    ),
    "module's field": (
        "from ssljax.views import MultiCrop\nMultiCrop(locals_count=3)",
        "e.py, line 2: MultiCrop has no field 'locals_count': did you mean 'local_count'?",
    ),
    "network's field": ("from ssljax.models import ResNet\nResNet(parents=3)", "no field 'parents': there are depth, "),
    "own class": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    length: int = 1\nA(lenght=2)",
        "e.py, line 5: A has no field 'lenght': did you mean 'length'?",
    ),
    "meant name": ("from ssljax.methods import Moco", "methods/__init__.py): did you mean 'MoCo'? (line 1)"),
    "unknown module": ("import ssljax.method", "No module named 'ssljax.method': did you mean 'methods'? (line 1)"),
    "unknown evaluator": (
        "import ssljax.evaluation as r\nr.Retrival()",
        "module 'ssljax.evaluation' has no attribute 'Retrival': did you mean 'Retrieval'? (line 2)",
    ),
    "sweep": (IMPORT + "config = Experiment(name='x')\nsweep = 5", "sweep=5 must be a list of experiments"),
    "sweep of others": (IMPORT + "config = Experiment(name='x')\nsweep = [3]", "a list of them: sweep[0]=3 is none"),
    "config": ("config = {}", "must define `config`, an Experiment, or `sweep`, a list of them: config={} is none"),
    "nothing": ("", "it has neither"),
}


@pytest.mark.parametrize("text, sentence", FILES.values(), ids=FILES)
def test_what_is_wrong_in_a_file_is_said_with_its_line(text, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.py").write_text(text)
    for path in (tmp_path / "e.py", (tmp_path / "e.py").relative_to(tmp_path)):
        with pytest.raises(UserError) as caught:
            load_experiments(path)
        assert sentence in str(caught.value)


def test_only_python_files_are_experiments(tmp_path):
    (tmp_path / "shop.csv").write_text("id")
    with pytest.raises(UserError, match=r"shop\.csv is not an experiment: it must be a Python file, such as shop\.py"):
        load_experiments(tmp_path / "shop.csv")
    for path in (tmp_path, tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match="there is no experiment file"):
            load_experiments(path)
