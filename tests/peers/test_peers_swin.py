"""Swin transformers with the weights of timm's and transformers' models give what those give."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from ssljax.models import Swin
from ssljax.models.weights import names
from ssljax.models.weights.swin import layout

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")


def randomized(model):
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def assert_equal(module, tensors, theirs, side):
    flat, report = names.to_ours(layout(module), tensors)
    assert report.complete, report
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    apply = jax.jit(functools.partial(module.apply, train=False))
    ours = apply(unflatten_dict(flat, sep="/"), images.transpose(0, 2, 3, 1))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize(
    "name, module, side",
    [
        ("swin_tiny_patch4_window7_224", Swin("T", window=2, depths=(2, 2, 1, 1)), 64),
        ("swin_small_patch4_window7_224", Swin("S", depths=(2, 1)), 112),
        ("swin_base_patch4_window12_384", Swin("B", window=4, depths=(2, 2, 1)), 64),
    ],
)
def test_timm(name, module, side):
    _, depths = module.sizes()
    heads = tuple(module.sizes()[0] // 32 * 2**i for i in range(len(depths)))
    options = {"img_size": side, "depths": depths, "num_heads": heads, "window_size": module.window}
    model = randomized(timm.create_model(name, num_classes=0, **options))
    assert_equal(module, {name: x.numpy() for name, x in model.state_dict().items()}, model, side)


@pytest.mark.parametrize("saved", [True, False], ids=["as-in-files", "as-in-memory"])
def test_hugging_face(saved, tmp_path):
    options = {"embed_dim": 32, "depths": [2, 2], "num_heads": [1, 2], "window_size": 2, "image_size": 32}
    model = randomized(transformers.SwinModel(transformers.SwinConfig(**options)))
    tensors = {name: x.numpy() for name, x in model.state_dict().items()}
    if saved:  # transformers renames while it writes: to the names that its hub's files have
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
    assert_equal(Swin(width=32, depths=(2, 2), window=2), tensors, lambda x: model(x).pooler_output, 32)
