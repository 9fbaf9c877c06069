"""Runs on the hub: what is pushed, loaded and refused, with a stand-in for the hub's server (`hub_server`).

Nothing here was tried with the Hugging Face hub itself: the stand-in speaks the part of its API that the library uses.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hub_server import TOKEN, Hub
from PIL import Image
from safetensors.numpy import save
from tiny import EXPERIMENT

import ssljax
from ssljax.cli.main import run as command
from ssljax.data import Folder
from ssljax.evaluation import Embeddings, Retrieval
from ssljax.export.hub import contents
from ssljax.models import Preprocessing, Pretrained, ResNet
from ssljax.models.weights.layouts import layout_of
from ssljax.models.weights.location import Address
from ssljax.models.weights.names import to_timm
from ssljax.training.run_folder import Run
from ssljax.types import UserError

hub_constants = pytest.importorskip("huggingface_hub.constants")

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
SHORT = dataclasses.replace(EXPERIMENT, epochs=1, monitor=(), evaluate=(Retrieval(relevant="label"),))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run folder, of a folder of photos on this machine."""
    home = tmp_path_factory.mktemp("home")
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (48, 20, 20, 3), np.uint8)):
        photo = home / "photos" / f"class{number % 6}" / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(photo)
    data = Folder(str(home / "photos"), shares=(0.6, 0.1, 0.3))
    return ssljax.train(dataclasses.replace(SHORT, name="shop", data=data), home / "runs").run


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub, which huggingface_hub takes for it, and an empty cache."""
    with Hub().serve() as hub:
        point_at(hub.url, monkeypatch)
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def point_at(url, monkeypatch):
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(hub_constants, "ENDPOINT", url)
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def push(run, *options, to="hf://anna/shop"):
    return command(["push", str(run), to, *options])


def test_a_pushed_run_embeds_as_it_did(hub, trained, capsys):
    assert push(trained, "--index") == 0
    assert f"{hub.url}/anna/shop/commit/" in capsys.readouterr().out
    model, here = ssljax.load("hf://anna/shop"), ssljax.load(trained)
    np.testing.assert_array_equal(model.embed(PHOTOS).vectors, here.embed(PHOTOS).vectors)
    found, wanted = ([[m.id for m in row] for row in m.index().search(PHOTOS, 3)] for m in (model, here))
    assert found == wanted
    teacher = ssljax.load("hf://anna/shop", network="teacher")
    np.testing.assert_array_equal(
        teacher.embed(PHOTOS).vectors, ssljax.load(trained, network="teacher").embed(PHOTOS).vectors
    )


def test_commands_take_the_address(hub, trained, tmp_path, capsys):
    assert push(trained, "--index") == 0
    photos, found = trained.parent.parent / "photos", []
    for run, file in (("hf://anna/shop", "there.npz"), (str(trained), "here.npz")):
        assert command(["embed", run, str(photos), "-o", str(tmp_path / file)]) == 0
        capsys.readouterr()
        assert command(["search", run, str(photos / "class0" / "0.png"), "--top", "3"]) == 0
        found.append(capsys.readouterr().out)
    there, here = (Embeddings.load(tmp_path / file).vectors for file in ("there.npz", "here.npz"))
    np.testing.assert_array_equal(there, here)
    assert found[0] == found[1]
    assert command(["embed", "hf://anna", str(photos), "-o", str(tmp_path / "x.npz")]) == 2
    assert "hf://user/name" in capsys.readouterr().err


def test_nothing_private_is_pushed(hub, trained):
    """No photo, no log, no code, no path of this machine; and what is there is what --dry-run lists."""
    assert push(trained, "--index") == 0
    files = hub.files("anna/shop")
    tops = {name.split("/")[0] for name in files}
    assert tops == {
        ".gitattributes",
        "ssljax.json",
        "README.md",
        "config.json",
        "data.json",
        "results.json",
        "weights",
        "checkpoints",
        "index",
    }
    assert not any(name.endswith((".py", ".png", ".jpg", ".html", ".npz", "lock")) for name in files)
    for name, content in files.items():
        assert str(trained.parent).encode() not in content, name
    assert json.loads(files["config.json"])["data"]["path"] == "photos"


def test_a_dry_run_lists_and_pushes_nothing(hub, trained, capsys):
    assert push(trained, "--dry-run") == 0
    out = capsys.readouterr().out
    for name in ("config.json", "weights/student.safetensors", "checkpoints/"):
        assert name in out
    assert "index/" not in out and hub.requests == []


def test_pushing_again_replaces_the_run_and_old_revisions_stay(hub, trained):
    assert push(trained, "--index") == 0
    hub.change("anna/shop", **{"README.md": b"Words of hers", "notes.txt": b"Others"})
    first = hub.sha("anna/shop", "main")
    assert push(trained) == 0
    files = hub.files("anna/shop")
    assert not any(name.startswith("index/") for name in files) and files["README.md"] == b"Words of hers"
    assert "notes.txt" in files
    assert ssljax.load(f"hf://anna/shop@{first}").run.name == first
    assert ssljax.load("hf://anna/shop").run.name == hub.sha("anna/shop", "main")
    with pytest.raises(UserError, match="no index"):
        ssljax.load("hf://anna/shop").index()


def test_the_model_card_goes_with_it(hub, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Shop\n")
    assert push(tmp_path / "run", "--private") == 0
    assert hub.files("anna/shop")["README.md"].endswith(b"# Shop\n") and hub.private["anna/shop"]


def test_the_card_of_a_run_becomes_that_of_the_repository(hub, trained, tmp_path):
    shutil.copytree(trained, run := tmp_path / "run")
    card = run / "card.md"
    places = "- `/home/anna/x/a.pth`: MIT\n- `Pretrained(weights='gs://private/b.npz')`"
    places += ' "/home/o\'x/c.pth" and/or `../d.pth`\n'
    card.write_text(card.read_text() + places)
    assert push(run) == 0
    pushed = hub.files("anna/shop")["README.md"].decode()
    assert "- `a.pth`: MIT\n- `Pretrained(weights='b.npz')` \"c.pth\" and/or `d.pth`\n" in pushed
    assert 'ssljax.load("hf://anna/shop")' in pushed and "test/cmc@1" in pushed
    card.write_text("Newer")
    assert push(run) == 0
    assert hub.files("anna/shop")["README.md"].startswith(b"Newer")
    hub.change("anna/shop", **{"README.md": b"Words of hers"})
    assert push(run) == 0
    assert hub.files("anna/shop")["README.md"] == b"Words of hers"
    ssljax.load("hf://anna/shop")


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        ("file:///home/anna/photos", "photos"),
        ("gs://private/photos", "photos"),
        ("../anna/photos", "photos"),
        ("photos/../../anna.csv", "anna.csv"),
        ("photos/red", "photos/red"),
        ("hf://user/name", "hf://user/name"),
        ("package:weights", "package:weights"),
    ],
)
def test_places_that_are_cut(hub, trained, tmp_path, value, cut):
    shutil.copytree(trained, run := tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["path"] = value
    (run / "config.json").write_text(json.dumps(config))
    assert (
        json.loads(contents(Run(run), Address("anna/shop"), tmp_path)["config.json"].read_text())["data"]["path"] == cut
    )


def test_what_was_loaded_is_loaded_without_a_network(hub, trained, monkeypatch):
    assert push(trained) == 0
    run = ssljax.load("hf://anna/shop").run
    point_at("http://127.0.0.1:9", monkeypatch)
    assert ssljax.load("hf://anna/shop").run == run


# What goes wrong


def refusal(address="hf://anna/shop"):
    with pytest.raises(UserError) as error:
        ssljax.load(address)
    assert "\n" not in str(error.value) and str(error.value).startswith(address)
    return str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "hf://",
            "hf://shop",
            "hf://anna/",
            "hf://anna/shop/weights",
            "hf://anna/shop@",
            "hf://../shop",
            "hf://a/b@../x",
        ),
        *("hf://anna/-shop", "hf://anna/sh op", "hf://anna/shop?x=1", "hf://anna/shop#main", "hf://anna/shöp"),
    ],
)
def test_other_addresses_are_refused(address):
    assert "hf://user/name" in refusal(address)


def test_addresses():
    assert Address.parse("hf://anna/shop-1.0") == Address("anna/shop-1.0")
    assert str(Address.parse("hf://anna/shop@refs/pr/1")) == "hf://anna/shop@refs/pr/1"


def test_no_such_run(hub, trained):
    assert "no such repository, or it is private" in refusal()
    assert push(trained) == 0
    assert "has no revision v2" in refusal("hf://anna/shop@v2")
    hub.change("anna/shop", **{"ssljax.json": None})
    assert "has no ssljax.json" in refusal()


def test_a_private_run_needs_its_token(hub, trained, monkeypatch):
    assert push(trained, "--private") == 0
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert "`hf auth login`" in refusal()


def test_no_network(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library tries again for a while
    point_at("http://127.0.0.1:9", monkeypatch)
    assert "check the network" in refusal()


def test_a_download_that_breaks_off(hub, trained):
    assert push(trained) == 0
    hub.cut = 5
    assert "cannot be read" in refusal()
    hub.cut = 0
    ssljax.load("hf://anna/shop")


def test_another_file_than_was_pushed(hub, trained):
    assert push(trained) == 0
    name = "weights/student.safetensors"
    hub.change("anna/shop", **{name: hub.files("anna/shop")[name][:-1] + b"?"})
    assert f"{name} is missing, or is not the file that was pushed" in refusal()
    hub.change("anna/shop", **{name: None})
    assert f"{name} is missing" in refusal()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "experiment.py", "checkpoints.json", "weights/../../evil", "index/.hidden", "*", 3]
)
def test_a_manifest_that_names_other_files(hub, trained, name):
    assert push(trained) == 0
    manifest = json.loads(hub.files("anna/shop")["ssljax.json"])
    manifest["files"] = [name] if name == 3 else manifest["files"] | {name: {"bytes": 1, "sha256": ""}}
    hub.change("anna/shop", **{"ssljax.json": json.dumps(manifest).encode()})
    hub.requests.clear()
    refusal()
    assert not any("evil" in asked or ".py" in asked for asked in hub.requests)


def test_other_files_of_the_repository_are_not_downloaded(hub, trained, tmp_path):
    assert push(trained) == 0
    code = f"open({str(tmp_path / 'canary')!r}, 'w')".encode()
    hub.change(
        "anna/shop", **{"experiment.py": code, "ssljax/__init__.py": code, "checkpoints.json": b'{"folder": "/"}'}
    )
    run = ssljax.load("hf://anna/shop").run
    assert not (run / "experiment.py").exists() and not (run / "checkpoints.json").exists()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": 3}', b"\xff"])
def test_a_damaged_manifest(hub, trained, content):
    assert push(trained) == 0
    hub.change("anna/shop", **{"ssljax.json": content})
    with pytest.raises(UserError, match=r"ssljax\.json|not a run"):
        ssljax.load("hf://anna/shop")


def test_a_push_without_the_right_to(hub, trained, monkeypatch, capsys):
    assert push(trained, to="hf://bert/shop") == 2
    assert "hf://bert/shop may not be written with your token: `hf auth login`" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert push(trained) == 2
    assert "hf auth login" in capsys.readouterr().err and not hub.commits


def test_runs_that_cannot_be_pushed(hub, trained, tmp_path, capsys):
    def complaint(change):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(trained, tmp_path / "run")
        change(tmp_path / "run")
        assert push(tmp_path / "run") == 2
        return capsys.readouterr().err

    assert "not a complete run" in complaint(lambda run: (run / "results.json").unlink())
    assert "no checkpoint" in complaint(lambda run: shutil.rmtree(run / "checkpoints"))
    elsewhere = json.dumps({"folder": "gs://bucket/runs"})
    assert "bucket" in complaint(lambda run: (run / "checkpoints.json").write_text(elsewhere))
    config = json.loads((trained / "config.json").read_text())
    config["method"]["class"] = "my.Method"
    assert "others do not have" in complaint(lambda run: (run / "config.json").write_text(json.dumps(config)))
    large = next(trained.glob("checkpoints/*/state/_METADATA")).relative_to(trained)
    assert "damaged" in complaint(lambda run: (run / large).write_bytes(b""))
    assert push(trained, to="hf://anna/shop@main") == 2
    assert not hub.commits


@pytest.mark.slow
def test_the_command_and_the_library_by_themselves(hub, trained, tmp_path):
    """In processes of their own, which know the stand-in by HF_ENDPOINT alone."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    code = "import ssljax, sys; print(ssljax.load('hf://anna/shop').run)"
    for arguments in (["-m", "ssljax.cli", "push", str(trained), "hf://anna/shop"], ["-c", code]):
        done = subprocess.run([sys.executable, *arguments], env=os.environ | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert str(tmp_path / "home") in done.stdout


def test_without_the_library(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push(trained) == 2
    assert "pip install 'ssljax[hub]'" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"ssljax\[hub\]"):
        ssljax.load("hf://anna/shop")


def test_a_model_on_the_hub_is_where_a_module_begins(hub, tmp_path):
    module, view = ResNet(depth=10, width=4), jnp.zeros((1, 32, 32, 3))

    def begun(address, **options):
        pretrained = Pretrained(module, address, **options)
        return jax.jit(lambda: pretrained.init(jax.random.PRNGKey(0), view, train=False))()

    variables = flatten_dict(jax.device_get(begun(None)), sep="/")
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    files = {
        "model.safetensors": save(to_timm(layout_of(module), variables)),
        "preprocessor_config.json": json.dumps(half).encode(),
    }
    hub.commits["anna/resnet"], hub.private["anna/resnet"] = [files], False
    hub.commits["anna/nothing"], hub.private["anna/nothing"] = [{"README.md": b""}], False
    with pytest.raises(UserError, match=r"preprocessing=Preprocessing\(mean=\(0.5, 0.5, 0.5\)"):
        begun("hf://anna/resnet")
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    found = flatten_dict(begun("hf://anna/resnet", preprocessing=preprocessing), sep="/")
    assert {name: np.array_equal(found[name], x) for name, x in variables.items()} == dict.fromkeys(variables, True)
    for address, sentence in {
        "hf://anna/nothing": "has none of model.safetensors",
        "hf://anna/nowhere": "cannot be downloaded",
        "hf://anna": "is not an address on the hub",
    }.items():
        with pytest.raises(UserError, match=sentence):
            begun(address)
