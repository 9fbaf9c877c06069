"""Exported networks in ONNX Runtime and in timm give the embeddings of `ssljax embed` from the same JPEG files."""

import dataclasses
import importlib.util
import warnings

import numpy as np
import pytest
from PIL import Image
from tiny import EXPERIMENT

import ssljax
from benchmarks.peers import import_torchvision
from ssljax.cli.main import run as command
from ssljax.methods import SimCLR
from ssljax.models import MLP, ConvNeXt, EfficientNet, ResNet, ViT
from ssljax.views import TwoCrops

pytestmark = pytest.mark.peers
RNG = np.random.default_rng(0)
ENCODERS = {
    "resnet10": ResNet(depth=10),
    "vit": ViT("Ti", patch=8, width=48, depth=2, heads=3),
    "convnext": ConvNeXt(width=8, depths=(1, 1, 2, 1), layer_scale=0.5),
    "other_grid": ViT("Ti", patch=8, width=48, depth=2, heads=3),
    "registers": ViT("Ti", patch=8, width=48, depth=2, heads=3, registers=4, layer_scale=0.1),
    "lite0": EfficientNet("lite0"),
}


@pytest.fixture(scope="module", params=ENCODERS)
def run(request, tmp_path_factory):
    fit, share = {"lite0": ("pad", 0.9), "vit": ("square", 0.875), "convnext": ("squeeze", 0.875)}.get(
        request.param, ("crop", 1.0)
    )
    how = {"fit": fit, "share": share, "resampling": "bicubic" if share < 1 else "bilinear"}
    method = SimCLR(encoder=ENCODERS[request.param], projector=MLP(hidden=(16,), out=8))
    small = {"monitor": (), "epochs": 0, "evaluate": EXPERIMENT.evaluate[:1], "baselines": False, "photo_size": 40}
    larger = 48 if request.param == "other_grid" else None
    views = TwoCrops(size=32, evaluation_size=larger, jitter=0.0, grey=0.0, blur=0.0, **how)
    experiment = dataclasses.replace(EXPERIMENT, name=request.param, method=method, views=views, **small)
    folder = tmp_path_factory.mktemp("runs")
    ssljax.train(experiment, runs=folder)
    return folder / request.param


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """JPEG files of several sizes, orientations and colour spaces."""
    folder = tmp_path_factory.mktemp("photos")
    for k, (height, width) in enumerate([(300, 400), (31, 57), (40, 40), (45, 290), (290, 62), (64, 50), (700, 600)]):
        small = Image.fromarray(RNG.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8))
        exif = Image.Exif()
        exif[274] = k + 1
        mode = {1: "L", 5: "CMYK"}.get(k, "RGB")
        small.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(folder / f"{k}.jpg", exif=exif)
    return sorted(folder.iterdir())


def exported(run, *arguments):
    """Exports a run; its folder, and the preprocess.py there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert command(["export", str(run), *arguments]) == 0
    folder = run / "export" / arguments[1]
    spec = importlib.util.spec_from_file_location("preprocess", folder / "preprocess.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return folder, module


def test_onnx_runtime_gives_the_same_embeddings(run, files):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, preprocess = exported(run, "--to", "onnx", "--float16", "--int8")
    wanted = ssljax.load(run).embed(files).vectors

    def difference(name):
        given = onnxruntime.InferenceSession(folder / name).run(None, preprocess.photos(files))[0]
        return np.abs(given - wanted).max() / np.abs(wanted).max()

    assert difference("model.onnx") * np.abs(wanted).max() < 1e-4
    assert 0 < difference("model.float16.onnx") < 0.02
    assert 0 < difference("model.int8.onnx") < 0.5
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.onnx")}
    if run.name in ("resnet10", "lite0"):  # else the photos' part is a good half of the file
        assert sizes["model.int8.onnx"] < 0.35 * sizes["model.onnx"]
    card = (folder / "card.md").read_text()
    assert "recall@10" in card and "model.int8.onnx" in card


def test_timm_gives_the_same_embeddings(run, files):
    torch = pytest.importorskip("torch")
    import_torchvision()
    timm = pytest.importorskip("timm")
    folder, preprocess = exported(run, "--to", "timm")
    wanted = ssljax.load(run).embed(files).vectors
    card = (folder / "card.md").read_text()
    line = next(line for line in card.splitlines() if line.startswith("network = timm"))
    names = {"timm": timm}
    exec(line.replace('"model.safetensors"', repr(str(folder / "model.safetensors"))), names)
    by_line = names["network"]
    by_config = timm.create_model(f"local-dir:{folder}", pretrained=True)
    for network in (by_line, by_config):
        with torch.no_grad():
            given = network.eval()(torch.from_numpy(preprocess.views(files))).numpy()
        assert np.abs(given - wanted).max() < 1e-4


def test_stablehlo_gives_the_same_embeddings(run, files):
    import jax.export

    folder, preprocess = exported(run, "--to", "stablehlo")
    network = jax.export.deserialize((folder / "model.stablehlo").read_bytes())
    given = np.asarray(network.call(**preprocess.photos(files)))
    assert np.abs(given - ssljax.load(run).embed(files).vectors).max() < 1e-4
