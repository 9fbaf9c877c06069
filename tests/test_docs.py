"""The method that the guide writes works as the methods here do, and the experiments of the guides are sound."""

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from methods import PARTS
from tiny import Training

from ssljax.loop import Setting
from ssljax.models import without_files

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = DOCS / "new_method.md"
EXPERIMENTS = re.findall(r"```python\n(.*?)```", (DOCS / "metric_learning.md").read_text(), re.DOTALL)


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


@pytest.mark.parametrize("code", EXPERIMENTS, ids=lambda code: code.split('"')[3])
def test_the_experiments_of_the_guide_to_metric_learning_suit_their_data(code):
    names = {}
    exec(code, names)
    config = names["config"]
    method = without_files(config.method)  # there is no run to start from
    setting = Setting.of(dataclasses.replace(config, method=method, batch_size=128))
    assert setting.shapes.params["encoder"]
