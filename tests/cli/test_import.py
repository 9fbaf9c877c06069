"""`ssljax import`: another library's weights are reported, written as ours and used; anything else is one sentence."""

import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import save, save_file

from ssljax.cli.main import run as ssljax
from ssljax.config import from_json
from ssljax.models import Preprocessing, Pretrained, ResNet
from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.names import to_timm

MODULE = ResNet(depth=10, width=4)
X = jnp.ones((1, 32, 32, 3))


def initial(module):
    return jax.jit(functools.partial(module.init, train=False))(jax.random.PRNGKey(3), X)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """timm's tensors of a small ResNet, with a classifier left over, which are also in the file theirs.safetensors."""
    monkeypatch.chdir(tmp_path)
    variables = {name: np.asarray(x) for name, x in flatten_dict(initial(MODULE), sep="/").items()}
    tensors = to_timm(layout_of(MODULE), variables) | {"fc.weight": np.zeros((10, 32), np.float32)}
    save_file(tensors, "theirs.safetensors")
    return tensors


def test_an_import_is_reported_written_and_used(theirs, capsys):
    assert ssljax(["import", "theirs.safetensors", "-o", "ours.safetensors", "--license", "MIT"]) == 0
    out, err = capsys.readouterr()
    assert "ResNet(depth=10, width=4) with " in err and "60 tensors are used" in err and "fc.weight" in err
    with safe_open("ours.safetensors", framework="numpy") as file:
        said = file.metadata()
    assert from_json(json.loads(said["module"])) == MODULE and json.loads(said["preprocessing"])["size"] == 224
    assert said["source"] == "theirs.safetensors" and len(said["source_sha256"]) == 64 and said["license"] == "MIT"
    lines = out[out.index("from ssljax import") :]
    found: dict = {}
    exec(lines, found)
    assert found["config"].method.encoder == Pretrained(MODULE, "ours.safetensors")
    jax.tree.map(np.testing.assert_array_equal, initial(found["encoder"]), initial(MODULE))


def test_without_an_output_the_file_itself_is_used(theirs, capsys):
    assert ssljax(["import", "theirs.safetensors", "--model", "ResNet(10, width=4)"]) == 0
    assert "Pretrained(ResNet(depth=10, width=4), 'theirs.safetensors')" in capsys.readouterr().out


def test_the_stated_preprocessing_is_that_of_the_printed_views(theirs, tmp_path, capsys):
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "input_size": [3, 160, 160]}
    said = {"architecture": "resnet18", "pretrained_cfg": imagenet | {"crop_pct": 0.875, "interpolation": "bicubic"}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert ssljax(["import", "theirs.safetensors"]) == 0
    out = capsys.readouterr().out
    assert 'TwoCrops(size=160, fit="square", share=0.875, resampling="bicubic")' in out and "photo_size=244" in out
    found: dict = {}
    exec(out[out.index("from ssljax import") :], found)
    stated = Preprocessing(160, fit="square", share=0.875, resampling="bicubic")
    assert found["config"].preprocessing == stated
    for mode, fit in (("center", "square"), ("border", "pad"), ("squash", "squeeze"), ("another", "square")):
        said["pretrained_cfg"] |= {"crop_pct": 1.0, "interpolation": "bilinear", "crop_mode": mode}
        (tmp_path / "config.json").write_text(json.dumps(said))
        assert ssljax(["import", "theirs.safetensors"]) == 0
        assert f'TwoCrops(size=160, fit="{fit}", resampling="bilinear")' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sizes", "views"),
    [
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, "square", 0.875)),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}, (224, "square", 1)),
        ({"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}}, (224, "squeeze", 0.875)),
        ({"size": {"height": 384, "width": 384}}, (384, "squeeze", 1)),
        ({"size": 192}, (192, "squeeze", 1)),
        ({"size": 256, "crop_size": 224}, (224, "squeeze", 0.875)),
        ({"size": 256, "crop_size": 224, "do_center_crop": False}, (256, "squeeze", 1)),
    ],
)
def test_what_hugging_face_says_of_sizes_is_that_of_the_printed_views(sizes, views, theirs, tmp_path, capsys):
    said = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | sizes))
    assert ssljax(["import", "theirs.safetensors", "--model", "ResNet(10, width=4)"]) == 0
    size, fit, share = views
    kept = f", share={share}" * (share < 1)
    assert f'TwoCrops(size={size}, fit="{fit}"{kept}, resampling="bilinear")' in capsys.readouterr().out


class Hostile:
    """Runs code where it is unpickled as pickles are."""

    def __reduce__(self):
        return open, ("executed", "w")


def wrong(tensors):
    """Name → content of a file that is refused, options, and the sentence."""
    content = save(tensors)
    return {
        "garbage": (b"no tensors at all", [], "is not a safetensors, torch or .npz file"),
        "nothing": (b"", [], "it is empty"),
        "truncated": (content[:-100], [], "cannot be read as weights"),
        "code": (pickle.dumps({"a": Hostile()}), [], "cannot be read as weights"),
        "other shape": (save(tensors | {"conv1.weight": tensors["conv1.weight"][:, :2]}), [], "(7, 7, 2, 4) there"),
        "no axes": (
            save(tensors | {"conv1.weight": np.ones(1, np.float32)}),
            ["--model", "ResNet(10, width=4)"],
            "conv1.weight is of shape (1,), which no",
        ),
        "integers": (save(tensors | {"bn1.bias": np.ones(4, np.int8)}), [], "bn1.bias holds int8, but"),
        "a ViT without width": (
            save(
                {"cls_token": np.zeros((1, 1, 0), np.float32), "patch_embed.proj.weight": np.zeros((0, 3, 1, 0), "f4")}
            ),
            ["--model", "ViT()"],
            "they look like no encoder of ssljax",
        ),
        "NaN": (save(tensors | {"bn1.bias": np.full(4, np.nan, np.float32)}), [], "values that are not finite"),
        "missing": (save({k: x for k, x in tensors.items() if k != "bn1.bias"}), [], "1 tensor is missing (bn1.bias)"),
        "left over": (save(tensors | {"tail.weight": tensors["bn1.bias"]}), [], "1 tensor is unknown (tail.weight)"),
        "of no encoder": (save({"words": np.ones((5, 3), np.float32)}), [], "looks like no encoder of ssljax"),
        "of a run": (save({"encoder/params/a": np.ones(3, np.float32)}), [], "is ssljax's own already"),
        "another model": (content, ["--model", "ResNet(depth=18)"], "look like those of ResNet(depth=10, width=4)"),
        "no encoder": (content, ["--model", "MLP()"], "MLP can begin with weights of ssljax alone"),
        "code as a model": (content, ["--model", "open('executed', 'w')"], "is not an encoder: write it as"),
        "no model": (content, ["--model", "ResNet"], "is not an encoder: write it as"),
        "a class's field": (content, ["--model", "ResNet(depths=18)"], "ResNet has no field 'depths'"),
        "suffix": (content, ["-o", "ours.pth"], "try ours.safetensors"),
        "folder": (content, ["-o", "file/ours.safetensors"], "cannot be written"),
    }


def test_what_is_wrong_is_one_sentence(theirs, tmp_path, capsys):
    for content, options, sentence in wrong(theirs).values():
        (tmp_path / "file").write_bytes(content)
        assert ssljax(["import", "file", *options]) == 2, sentence
        said = capsys.readouterr().err.splitlines()[-1]
        assert sentence in said and said.startswith("ssljax import: "), said
    assert not (tmp_path / "executed").exists() and not list(tmp_path.glob("ours*"))
    assert ssljax(["import", "nowhere.pth"]) == 2
    assert "weights=nowhere.pth" in capsys.readouterr().err
