"""The encoders of lightly's models are found among their tensors, and give what those give."""

import copy
import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from ssljax.models import ResNet
from ssljax.models.weights import names
from ssljax.models.weights.checkpoints import encoder_tensors
from ssljax.models.weights.layouts import guess, layout_of

torch = pytest.importorskip("torch")
lightly = pytest.importorskip("lightly.models")
heads = pytest.importorskip("lightly.models.modules.heads")
torchvision = pytest.importorskip("torchvision.models")

pytestmark = pytest.mark.peers


class BYOL(torch.nn.Module):
    """As lightly's documentation has it; what `state_dict` gives is under state_dict/ in a checkpoint."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.projection_head = heads.BYOLProjectionHead(512, 64, 32)
        self.prediction_head = heads.BYOLPredictionHead(32, 64, 32)
        self.backbone_momentum = copy.deepcopy(backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)


def numbered():
    return torch.nn.Sequential(*list(torchvision.resnet18().children())[:-1])


def own():
    model = lightly.ResNetGenerator("resnet-18")
    model.linear = torch.nn.Identity()
    return model


BACKBONES = {"torchvision's": (numbered, ResNet(18)), "lightly's own": (own, ResNet(18, stem="cifar"))}


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_byol_of_lightly(kind):
    make, module = BACKBONES[kind]
    model = BYOL(make()).eval()
    file = {f"state_dict/{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    assert guess(file) == module
    encoder = encoder_tensors(file)
    assert all(not name.startswith("state_dict/backbone.") for name in encoder.left_over)
    flat, report = names.to_ours(layout_of(module), encoder.tensors)
    assert report.complete, report
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = model.backbone(torch.from_numpy(images)).flatten(1).numpy()
    apply = jax.jit(functools.partial(module.apply, train=False))
    ours = apply(unflatten_dict(flat, sep="/"), images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
