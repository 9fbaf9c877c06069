"""The code of the guides runs: the method that one writes works as the methods here do."""

import importlib.util
import re
import sys
from pathlib import Path

import jax
import numpy as np
from methods import PARTS
from tiny import Training

from ssljax.data import Triplets

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = DOCS / "new_method.md"


def test_the_example_of_a_new_method_trains_equally_on_one_device_and_eight(tmp_path):
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    (tmp_path / "tico.py").write_text(code)
    spec = importlib.util.spec_from_file_location("tico", tmp_path / "tico.py")
    sys.modules["tico"] = tico = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tico)
    method = tico.TiCo(**PARTS, momentum=0.9)
    one, eight = Training(method), Training(method, devices=8)
    for _ in range(2):
        figures, others = one.run(1), eight.run(1)
        assert np.allclose(figures["loss"], others["loss"], rtol=1e-3)
    covariance = np.asarray(one.state.aux.covariance)
    assert abs(np.trace(covariance) - 0.19) < 1e-4  # .1 after a step, of unit vectors, then .9 x .1 + .1
    assert not jax.tree.reduce(np.logical_or, jax.tree.map(lambda x: np.isnan(x).any(), one.state.params))


def test_the_snippets_on_metric_learning_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "metric_learning.md").read_text(), re.DOTALL):
        exec(code, names)
    items, mined = names["items"], names["mined"]
    assert mined.shape == (len(items), 7, 2) and (mined >= 0).mean() > 0.5
    for sampler in (names["config"].sampler, names["sampler"], Triplets(names["single"]), Triplets(names["tags"])):
        assert sampler.over(items, batch_size=32, seed=0).rows(0).size in (32, 96)
