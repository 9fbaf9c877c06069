"""Exports give the embeddings of `ssljax embed` from the same files, and what cannot be exported is refused."""

import dataclasses
import importlib.util
import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors import safe_open
from tiny import ENCODER, EXPERIMENT, MOCO

import ssljax
from ssljax.cli.main import run as command
from ssljax.data.decode import decode
from ssljax.evaluation.restore import Restored
from ssljax.export.network import Network
from ssljax.export.preprocessing import settings_of
from ssljax.export.tensors import timm_architecture
from ssljax.models import (
    BagOfTokens,
    ColourHistogram,
    ConvNeXt,
    EfficientNet,
    Frozen,
    Fusion,
    Joined,
    Pretrained,
    ResNet,
    Swin,
    ViT,
    weights_bytes,
)
from ssljax.models.licences import starts_of
from ssljax.training.run_folder import Run
from ssljax.types import UserError
from ssljax.views import TwoCrops

RNG = np.random.default_rng(0)
TINY = dataclasses.replace(EXPERIMENT, monitor=(), epochs=1, evaluate=EXPERIMENT.evaluate[:1], baselines=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ssljax.train(TINY, runs=folder)
    return folder / "tiny"


def photo(height, width, mode="RGB"):
    """A smooth photo with noise."""
    small = Image.fromarray(RNG.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = (pixels + RNG.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """JPEG files of many kinds, and one PNG."""
    folder = tmp_path_factory.mktemp("photos")
    for k, shape in enumerate(
        [(300, 400), (31, 57), (20, 20), (25, 90), (90, 22), (640, 480), (1200, 333), (64, 1000)]
    ):
        photo(*shape).save(folder / f"plain{k}.jpg", quality=90, subsampling=k % 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        photo(45, 70).save(folder / f"turned{orientation}.jpg", exif=exif)
    photo(70, 50, "L").save(folder / "grey.jpg")
    photo(70, 50, "CMYK").save(folder / "cmyk.jpg")
    photo(70, 50).save(folder / "progressive.jpg", progressive=True)
    photo(70, 50).save(folder / "plain.png")
    clear = photo(70, 50, "RGBA")
    clear.putalpha(Image.fromarray(RNG.integers(0, 256, (70, 50), np.uint8)))
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


def loaded(folder):
    """The preprocess.py of an export."""
    spec = importlib.util.spec_from_file_location("preprocess", folder / "preprocess.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(run, *arguments):
    return command(["export", str(run), *arguments])


def test_photos_are_decoded_as_here(run, photos, tmp_path):
    assert export(run, "--to", "safetensors", "-o", str(tmp_path)) == 0
    preprocess = loaded(tmp_path)
    for size in (20, 33, 128):
        for path in photos:
            ours, theirs = decode(path, size), preprocess.decode(path, size)
            assert np.array_equal(ours[0], theirs[0]) and np.isclose(ours[1], theirs[1], 1e-9), (path.name, size)


def test_without_simplejpeg_most_scales_are_decoded_as_here(run, photos, tmp_path, monkeypatch):
    assert export(run, "--to", "safetensors", "-o", str(tmp_path)) == 0
    preprocess = loaded(tmp_path)
    monkeypatch.setattr(preprocess, "simplejpeg", None)
    path = next(path for path in photos if path.name == "plain0.jpg")
    for size in (300, 150, 120, 75, 37, 20):  # 1, 1/2, 1/2, 1/4, 1/8 and 1/8 of its 300 rows
        assert np.array_equal(decode(path, size)[0], preprocess.decode(path, size)[0])
    with pytest.warns(UserWarning, match="simplejpeg"):
        other = preprocess.decode(path, 200)[0]
    assert 0 < np.abs(other.astype(int) - decode(path, 200)[0]).mean() < 4


@pytest.mark.parametrize("fit", ["crop", "square", "squeeze", "pad"])
@pytest.mark.parametrize(("share", "resampling"), [(1.0, "bilinear"), (0.875, "bicubic")])
def test_views_are_those_of_the_evaluation(run, fit, share, resampling):
    preprocess = loaded_from_package()
    views = TwoCrops(size=24, fit=fit, share=share, resampling=resampling, mean=(0.5, 0.4, 0.3))
    restored = Restored.of(Run(run))
    experiment = dataclasses.replace(restored.experiment, views=views)
    spec = dataclasses.replace(restored.spec, experiment=experiment)
    how = settings_of(Network.of(dataclasses.replace(restored, spec=spec)))
    image = RNG.integers(0, 256, (10, 40, 40, 3), np.uint8)
    aspect = np.array([0.3, 0.75, 1.0, 1.2, 4 / 3, 3.1, 1.003, 1 / 1.01, 41 / 40, 1.02], np.float32)
    wanted = views.evaluation({"image": image[:, None], "aspect": aspect[:, None]})["views"][0]
    for k in range(len(aspect)):
        given = preprocess.view(image[k], aspect[k], how)
        assert np.abs(given.transpose(1, 2, 0) - wanted[k]).max() < 2e-5


def loaded_from_package():
    import ssljax.export.preprocess as preprocess

    return preprocess


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_stablehlo_gives_the_same_embeddings_of_the_same_files(run, photos, tmp_path, network):
    pytest.importorskip("flatbuffers")
    import jax.export

    assert export(run, "--to", "stablehlo", "-o", str(tmp_path), "--network", network) == 0
    exported = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    wanted = ssljax.load(run, network=network).embed(photos).vectors
    given = exported.call(**loaded(tmp_path).photos(photos))
    assert np.abs(np.asarray(given) - wanted).max() < 1e-4
    assert (tmp_path / "card.md").read_text().count("model.stablehlo") == 1


def test_safetensors_begin_another_run(run, tmp_path):
    assert export(run, "--to", "safetensors", "-o", str(tmp_path), "--part", "projection") == 0
    path = tmp_path / "model.safetensors"
    with safe_open(path, framework="numpy") as file:
        names, said = set(file.keys()), file.metadata()
    assert {name.partition("/")[0] for name in names} == {"encoder", "projector"}
    assert json.loads(said["module"])["class"] == "ResNet" and json.loads(said["recipe"])["name"] == "tiny"
    images = RNG.standard_normal((4, 16, 16, 3), np.float32)
    encoder = Pretrained(ResNet(depth=10, width=4), str(path))
    variables = encoder.init(jax.random.PRNGKey(0), images, train=False)
    wanted = Network.of(Restored.of(Run(run))).embed(images)
    assert np.abs(encoder.apply(variables, images, train=False) - wanted).max() < 1e-5


def test_a_card_says_what_the_network_is(run, tmp_path):
    assert "ResNet(depth=10, width=4)" in (run / "card.md").read_text()
    assert export(run, "--to", "safetensors", "-o", str(tmp_path)) == 0
    card = (tmp_path / "card.md").read_text()
    for said in ("test/cmc@1", "MoCo", "ToyCatalogue(", "student, backbone", "began as random", "Pretrained(ResNet("):
        assert said in card


def test_a_card_names_the_weights_it_started_from_and_their_licence(tmp_path, capsys):
    start = tmp_path / "theirs.safetensors"
    variables = {f"encoder/{name}": x for name, x in flat_variables(ENCODER).items()}
    start.write_bytes(weights_bytes(variables, {"license": "CC-BY-4.0"}))
    method = dataclasses.replace(MOCO, encoder=Pretrained(ENCODER, str(start)))
    run = ssljax.train(dataclasses.replace(TINY, name="begun", method=method, epochs=0), runs=tmp_path).run
    start.unlink()
    assert export(run, "--to", "safetensors", "-o", str(tmp_path / "out")) == 0
    for folder in (run, tmp_path / "out"):
        card = (folder / "card.md").read_text()
        assert f"- `{start}`: CC-BY-4.0" in card and "random numbers" not in card and "weights=None" not in card
        assert "It was not trained" in card and "| figure | imported |" in card and "Trained with" not in card
    for file in (run / "weights" / "student.safetensors", tmp_path / "out" / "model.safetensors"):
        with safe_open(file, framework="numpy") as opened:
            said = opened.metadata()
        assert said["license"] == "CC-BY-4.0"
    assert str(start) in said["recipe"]
    again = dataclasses.replace(method, encoder=Pretrained(ENCODER, str(run / "weights" / "student.safetensors")))
    assert [start["license"] for start in starts_of(again)] == ["CC-BY-4.0"]


def flat_variables(module):
    """A module's variables by names such as params/stem/kernel."""
    variables = jax.jit(lambda rng, x: module.init(rng, x, train=False))(jax.random.PRNGKey(3), np.ones((1, 16, 16, 3)))
    return flatten_dict(jax.device_get(variables), sep="/")


@pytest.mark.parametrize(
    ("stated", "licence", "found"),
    [
        ("License: MIT", "Else", "MIT"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License", "Else", "BSD License"),
        ("License: UNKNOWN", "\n  Apache License 2.0  \n\nCopyright", "Apache License 2.0"),
        ("License: UNKNOWN", None, None),
    ],
)
def test_the_licence_of_a_package(tmp_path, monkeypatch, stated, licence, found):
    name = f"weights{abs(hash((stated, licence)))}"
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{stated}\n")
    (tmp_path / "w.safetensors").write_bytes(weights_bytes({"encoder/params/x": np.ones(1, np.float32)}))
    if licence:
        (info / "LICENSE").write_text(licence)
    files = ["w.safetensors", *([f"{info.name}/LICENSE"] if licence else [])]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.syspath_prepend(tmp_path)
    assert starts_of(Pretrained(ENCODER, f"package:{name}")) == [{"weights": f"package:{name}", "license": found}]


def test_what_cannot_be_exported_is_refused(run, tmp_path, capsys):
    for arguments, sentence in {
        ("--to", "savedmodel"): "needs TensorFlow: choose onnx",
        ("--to", "timm"): "a ResNet with stem=imagenet and width=4 cannot be exported to timm",
        ("--to", "timm", "--part", "projection"): "part=projection is not in timm's networks",
        ("--to", "stablehlo", "--int8"): "--int8 is an option for --to onnx",
        ("--to", "safetensors", "-o", "/dev/null/there"): "choose another --output",
    }.items():
        assert export(run, *arguments) == 2
        assert sentence in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "results.json").unlink()
    assert export(unfinished, "--to", "safetensors") == 2
    assert "is not complete: train it to the end first" in capsys.readouterr().err


def test_an_encoder_that_reads_titles_too_is_refused(run):
    restored = Restored.of(Run(run))
    fusion = dataclasses.replace(MOCO, encoder=Fusion(photo=ENCODER, title=BagOfTokens()))
    spec = dataclasses.replace(restored.spec, experiment=dataclasses.replace(restored.experiment, method=fusion))
    with pytest.raises(UserError, match="its encoder reads titles too, and an export takes photos alone"):
        Network.of(dataclasses.replace(restored, spec=spec))


@pytest.mark.slow
def test_encoders_side_by_side_are_exported_as_one(tmp_path, capsys):
    joined = Joined((Frozen(ENCODER), ENCODER, ColourHistogram()))
    method = dataclasses.replace(MOCO, encoder=joined)
    ssljax.train(dataclasses.replace(TINY, method=method), runs=tmp_path)
    for to in ("safetensors", "stablehlo"):  # which is compared with `ssljax embed`
        assert export(tmp_path / "tiny", "--to", to) == 0
    assert export(tmp_path / "tiny", "--to", "timm") == 2
    assert "Joined cannot be exported to timm: export to onnx, stablehlo or safetensors" in capsys.readouterr().err


def test_an_export_that_is_not_installed_is_refused(run, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert export(run, "--to", "onnx") == 2
    assert "to=onnx needs jax2onnx, which is not installed: pip install 'ssljax[export]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (ResNet(depth=50), "resnet50"),
        (ResNet(depth=10), "resnet18"),
        (EfficientNet("lite0"), "tf_efficientnet_lite0"),
        (EfficientNet("B2"), "efficientnet_b2"),
        (ConvNeXt("S"), "convnext_small"),
        (ViT("Ti", patch=8), "vit_tiny_patch16_224"),
    ],
)
def test_what_timm_calls_an_encoder(module, name):
    assert timm_architecture(module, 224)[0] == name


@pytest.mark.parametrize(
    "module",
    [
        ResNet(pool=2),
        ResNet(stem="cifar"),
        ResNet(width=32),
        EfficientNet(width=0.5),
        ViT(positions="sincos"),
        ViT(pooling="attention"),
        ViT(positions="rope"),
        ViT(feed_forward="swiglu"),
        ConvNeXt(layer_scale=None),
        ConvNeXt(depths=(1, 1)),
        Swin(),
    ],
)
def test_what_timm_has_not_is_refused(module):
    with pytest.raises(UserError, match="cannot be exported to timm"):
        timm_architecture(module, 224)
