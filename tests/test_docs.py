"""What the guides write works: the method as the methods here do, and the snippets one after the other."""

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from methods import PARTS
from safetensors.numpy import save_file
from tiny import CROPS, Training

from ssljax.data import ToyCatalogue, Triplets
from ssljax.data.columns import text
from ssljax.evaluation import Embeddings
from ssljax.methods import EMA
from ssljax.models import ResNet, without_files
from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.names import to_timm
from ssljax.training.setup import Setup

DOCS = Path(__file__).parent.parent / "docs"
PACKAGE = Path(__file__).parent.parent / "ssljax"
GUIDE = DOCS / "new_method.md"
METRICS = DOCS / "metrics.md"
EXPERIMENTS = re.findall(r"```python\n(.*?)```", (DOCS / "metric_learning.md").read_text(), re.DOTALL)


def test_the_example_of_a_new_method_trains_equally_on_one_device_and_eight(tmp_path):
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    (tmp_path / "tico.py").write_text(code)
    spec = importlib.util.spec_from_file_location("tico", tmp_path / "tico.py")
    sys.modules["tico"] = tico = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tico)
    method = tico.TiCo(**PARTS, teacher=EMA(momentum=0.9))
    one, eight = Training(method, views=CROPS), Training(method, views=CROPS, devices=8)
    for _ in range(2):
        figures, others = one.run(1), eight.run(1)
        assert np.allclose(figures["loss"], others["loss"], rtol=1e-3)
    covariance = np.asarray(one.state.aux.covariance)
    assert abs(np.trace(covariance) - 0.19) < 1e-4  # .1 after a step, of unit vectors, then .9 x .1 + .1
    assert not jax.tree.reduce(np.logical_or, jax.tree.map(lambda x: np.isnan(x).any(), one.state.params))


@pytest.mark.parametrize("page", ["post_processing.md", "attributes.md", "matching.md"])
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "runs/shop/embeddings").mkdir(parents=True)
    for split in ("train", "val", "test"):
        listing = np.arange(40) // 2
        columns = {
            "colour": text(("red", "blue", "n/a", "Blue ")[k % 4] for k in listing),
            "title": text(f"shirt {k}" for k in listing),
            "listing": text(map(str, listing)),
        }
        vectors = rng.standard_normal((20, 16), np.float32)[listing] + 0.1 * rng.standard_normal((40, 16), np.float32)
        embeddings = Embeddings(text(map(str, range(40))), vectors, columns, listing=listing.astype(np.int32))
        embeddings.save(tmp_path / f"runs/shop/embeddings/{split}.npz")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(code, page, "exec"), names)


def test_the_guide_to_metrics_runs_and_names_figures_that_there_are():
    page, names = METRICS.read_text(), {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, METRICS.name, "exec"), names)
    assert names["difference"].mean > 0 and names["difference"].p_value < 0.01
    everything = names["Retrieval"]("listing", ks=(1, 5), caps=(6,), depths=(6,), recalls=(5,))(names["a"])
    listed = set(re.findall(r"^\| `([^`]*)`", page, re.MULTILINE))
    general = {name.removeprefix("test/").replace("5", "k").replace("1", "k") for name in everything}
    general = {name.replace("@6", "@d").replace(",6", ",d" if "over" in name else ",c") for name in general}
    assert general - listed == {"queries", "queries_left_out"}


def test_the_snippet_of_the_guide_to_exports_runs(tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "export.md").read_text(), re.DOTALL):
        exec(compile(code, "export.md", "exec"), {})


@pytest.mark.parametrize("code", EXPERIMENTS, ids=lambda code: code.split('"')[3])
def test_the_experiments_of_the_guide_to_metric_learning_suit_their_data(code):
    names = {}
    exec(code, names)
    config = names["config"]
    method = without_files(config.method)  # there is no run to start from
    setup = Setup.of(dataclasses.replace(config, method=method, batch_size=128))
    assert setup.spec.shapes.params["encoder"]


def test_the_snippets_on_classes_and_triplets_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ToyCatalogue(listings=200).load("train")
    Path("runs/shop/embeddings").mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(len(train), 16)).astype(np.float32)
    Embeddings.of(train, vectors).save(Path("runs/shop/embeddings/train.npz"))
    names, configs = {}, {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "triplets.md").read_text(), re.DOTALL):
        exec(code, names)
        configs |= {names["config"].name: names["config"]}
    assert list(configs) == ["sup_con_toy", "triplets_toy", "triplets_hard"]
    items, mined = names["items"], names["mined"]
    assert mined.shape == (len(items), 7, 2) and (mined >= 0).mean() > 0.5
    assert Setup.of(configs["triplets_hard"]).spec.batch["image"].shape == (32, 3, 64, 64, 3)
    samplers = [config.sampler for config in configs.values()]
    for sampler in (*samplers, Triplets(names["single"]), Triplets(names["tags"])):
        assert sampler.over(items, batch_size=32, seed=0).rows(0).size in (32, 96)


def test_the_guide_to_weights_runs_and_its_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, names, configs = ResNet(depth=18), {}, {}
    shapes = jax.eval_shape(lambda: module.init(jax.random.PRNGKey(0), jnp.zeros((1, 64, 64, 3)), train=False))
    variables = {name: np.ones(leaf.shape, np.float32) for name, leaf in flatten_dict(shapes, sep="/").items()}
    save_file(to_timm(layout_of(module), variables), "resnet18.safetensors")
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "weights.md").read_text(), re.DOTALL):
        exec(code, names)
        configs |= {names["config"].name: names["config"]}
    assert configs["imported"].normalised_views.mean == (127 / 255,) * 3
    assert Setup.of(configs["other_preprocessing"]).total_steps == 0


def test_the_reference_has_a_page_of_each_package_that_exports_names():
    pages = {re.search(r"^::: (\S+)", page.read_text(), re.MULTILINE)[1] for page in DOCS.glob("reference/*.md")}
    packages = {f"ssljax.{init.parent.name}" for init in PACKAGE.glob("*/__init__.py") if "__all__" in init.read_text()}
    assert packages <= pages


def test_every_guide_is_in_the_navigation_of_the_site():
    navigation = (DOCS.parent / "mkdocs.yml").read_text()
    assert not [page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).as_posix() not in navigation]


def test_the_guide_to_titles_builds_what_it_shows():
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "titles.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["encoder"].how == "normalise_first" and type(names["method"]).__name__ == "CLIP"
