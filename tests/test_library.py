"""ssljax from Python: train, embed and search, as the guide and the notebook do, and mistakes in a sentence."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ssljax
from ssljax.types import UserError

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def guide(tmp_path_factory) -> dict:
    """The names that the guide's snippets leave, which were run one after the other in a folder of their own."""
    names, before = {}, [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("python"))
        for code in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL):
            exec(compile(code, "python.md", "exec"), names)
        yield names
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_guide_runs(guide):
    assert guide["embeddings"].vectors.shape == (6, 32)
    first = [matches[0] for matches in guide["matches"]]
    assert [Path(id).stem for id in guide["embeddings"].ids] == [match.id for match in first]
    assert all(match.score > 0.999 for match in first)


def test_the_notebook_runs(guide):
    notebook = json.loads((DOCS / "quickstart.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names)
    assert names["experiment"] == guide["experiment"]  # so it was trained already


def test_a_photo_has_one_embedding_however_it_is_given(guide):
    model, folder = guide["model"], Path("runs/toy/samples")
    paths = sorted(folder.iterdir())
    whole = model.embed(folder).vectors
    images = [Image.open(path) for path in paths]
    for given in (paths, [str(path) for path in paths], [path.read_bytes() for path in paths], images):
        np.testing.assert_allclose(model.embed(given).vectors, whole, atol=1e-4)
    np.testing.assert_allclose(model.embed(paths[0]).vectors, whole[:1], atol=1e-4)
    arrays = model.embed([np.asarray(image) for image in images]).vectors  # shrunk a little differently than files
    np.testing.assert_allclose(arrays, whole, atol=0.1)
    np.testing.assert_allclose(model.embed(np.asarray(images[0])[None]).vectors, arrays[:1], atol=1e-4)
    many = model.embed(np.asarray(images[1])[None].repeat(67, axis=0)).vectors
    np.testing.assert_allclose(many, arrays[1:2].repeat(67, axis=0), atol=1e-4)
    transparent, white = Image.new("RGBA", (40, 30), (0, 0, 0, 0)), Image.new("L", (40, 30), 255)
    np.testing.assert_allclose(model.embed(transparent).vectors, model.embed(white).vectors, atol=1e-4)


@pytest.mark.parametrize(
    "photos, says",
    [
        (np.zeros((4, 4, 3), np.uint8), r"photos has the shape \(4, 4, 3\).*photos\[None\]"),
        (np.zeros((1, 4, 4, 3), np.float32), r"photo 0 is float32\[4, 4, 3\], and must be pixels uint8"),
        (np.zeros((1, 4, 4, 4), np.uint8), r"photo 0 is uint8\[4, 4, 4\]"),
        ([], "photos is empty"),
        (Image.new("RGB", (0, 3)), "photo 0 is an empty image of 0 x 3 pixels"),
        (3, "photos=3 must be an array"),
        ([None], "photo 0 is None"),
        (["none.jpg"], "photo none.jpg cannot be read"),
        ("https://example.com/a.jpg", "photo"),
        (["a.jpg", "a.jpg"], "names a file twice"),
    ],
)
def test_what_is_no_photo_is_refused_in_a_sentence(guide, photos, says):
    with pytest.raises(UserError, match=says):
        guide["model"].embed(photos)


def test_other_mistakes_are_refused_in_a_sentence(guide, tmp_path):
    with pytest.raises(UserError, match="k=0 must be a whole number"):
        guide["model"].index().search("runs/toy/samples", k=0)
    with pytest.raises(UserError, match="must be an Experiment"):
        ssljax.train("shop.py")
    with pytest.raises(UserError, match="runs=None must be a path"):
        ssljax.train(guide["experiment"], None)
    with pytest.raises(UserError, match="run=3 must be a path"):
        ssljax.load(3)
    with pytest.raises(UserError, match="experiment=3 must be the Experiment"):
        ssljax.load("runs/toy", experiment=3)
    with pytest.raises(UserError, match="where=3 must be a path"):
        guide["model"].index(3)
    assert len(guide["model"].index().search(np.zeros((1, 9, 9, 3), np.uint8), k=np.int64(2))[0]) == 2
    deep = '{"class": "FewLabels", "data": ' * 900 + "1" + "}" * 900
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/config.json").write_text(
        f'{{"class": "Experiment", "name": "deep", "views": null, "method": null, "data": {deep}}}'
    )
    with pytest.raises(UserError, match="does not suit this version"):
        ssljax.load(tmp_path / "deep")
    with pytest.raises(UserError, match="is not a run folder"):
        ssljax.load(tmp_path)
    with pytest.raises(UserError, match="has no teacher"):
        ssljax.load("runs/toy", network="teacher")
    with pytest.raises(AttributeError, match="has no attribute 'Experimant'"):
        _ = ssljax.Experimant


@pytest.mark.parametrize(
    "program",
    [
        "import ssljax; import sys; assert 'jax' not in sys.modules and ssljax.__version__",
        "import ssljax; ssljax.train; from ssljax.train import train_step; from ssljax import Experiment, train",
        "from ssljax.train import train_step; import ssljax",
        "from ssljax import train; import ssljax.train",
    ],
)
def test_train_is_a_function_and_a_module_in_any_order_of_imports(program):
    check = "assert callable(ssljax.train)\ntry: ssljax.train(1)\nexcept Exception as error: print(error)"
    check += "\nfrom ssljax.train import train_step\nassert ssljax.train.train_step is train_step"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{check}"], capture_output=True, text=True, check=True)
    assert "experiment=1 must be an Experiment" in done.stdout
