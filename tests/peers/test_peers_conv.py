"""Convolutional encoders with the weights of timm's, torchvision's and FAIR's models give what those give."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from ssljax.models import ConvNeXt, EfficientNet, ResNet
from ssljax.models.weights import names
from ssljax.models.weights.layouts import guess, layout_of

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.peers


def randomized(model):
    """The model in evaluation mode, with random norms and statistics, which else are all zero or one."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bias", "gamma", "layer_scale")):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            if name.endswith("weight"):
                tensor.mul_(0.5)  # more would let 50 residual blocks explode
    return model.eval()


def of_timm(name):
    return randomized(timm.create_model(name, num_classes=0))


def of_torchvision(name):
    """With the features for output, and the classifier's tensors in the file."""
    model = randomized(torchvision.models.get_model(name))
    tensors = tensors_of(model)
    if hasattr(model, "fc"):
        model.fc = torch.nn.Identity()
    else:
        model.classifier[-1] = torch.nn.Identity()
    return model, tensors


def tensors_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def converted(module, tensors):
    flat, report = names.to_ours(layout_of(module), tensors)
    assert report.complete, report
    return unflatten_dict(flat, sep="/")


def assert_equal(module, tensors, theirs, side=64):
    """Ours from `tensors` give what `theirs`, images [B, 3, H, W] → [B, C], gives."""
    images = np.random.default_rng(0).normal(size=(2, 3, side, side + 2)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    ours = jax.jit(functools.partial(module.apply, train=False))(
        converted(module, tensors), images.transpose(0, 2, 3, 1)
    )
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


TIMM = {
    **{f"resnet{depth}": ResNet(depth) for depth in (18, 34, 50, 101, 152)},
    **{f"efficientnet_b{i}": EfficientNet(f"B{i}") for i in range(5)},
    "tf_efficientnet_b0": EfficientNet("B0", conventions="tensorflow"),
    "efficientnet_lite0": EfficientNet("lite0", conventions="torch"),
    **{f"tf_efficientnet_lite{i}": EfficientNet(f"lite{i}") for i in range(5)},
    "convnext_tiny": ConvNeXt("T", scan=True),
    "convnext_small": ConvNeXt("S", scan=True),
    "convnext_base": ConvNeXt("B", scan=True),
}


@pytest.mark.parametrize("name", TIMM)
def test_features_are_timms(name):
    model = of_timm(name)
    assert_equal(TIMM[name], tensors_of(model), model)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnets_are_torchvisions(depth):
    model, tensors = of_torchvision(f"resnet{depth}")
    assert_equal(ResNet(depth), tensors, model)
    assert guess(tensors) == ResNet(depth)


@pytest.mark.parametrize(
    "name, module",
    [
        ("convnext_tiny", ConvNeXt("T")),
        ("efficientnet_b0", EfficientNet("B0")),
        ("efficientnet_b2", EfficientNet("B2")),
    ],
)
def test_other_networks_are_torchvisions(name, module):
    model, tensors = of_torchvision(name)
    assert_equal(module, tensors, model)
    assert guess(tensors).variant == module.variant


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_tiny"])
def test_gradients_are_timms(name):
    module, model = TIMM[name], of_timm(name)
    variables = converted(module, tensors_of(model))
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(2, module.features)).astype(np.float32)
    (model(torch.from_numpy(images)) * torch.from_numpy(weights)).sum().backward()

    def loss(params, x):
        return (module.apply({**variables, "params": params}, x, train=False) * weights).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"], images.transpose(0, 2, 3, 1))
    expected = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    expected, _ = names.to_ours(layout_of(module), expected)
    for name, ours in flatten_dict({"params": gradient}, sep="/").items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(ours, expected[name], atol=1e-3 * scale + 1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_tiny"])
def test_timm_loads_what_was_ours(name):
    module, model = TIMM[name], of_timm(name)
    variables = converted(module, tensors_of(model))
    tensors = names.to_timm(layout_of(module), flatten_dict(variables, sep="/"))
    fresh = timm.create_model(name, num_classes=0).eval()
    missing, unknown = fresh.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    assert not unknown and all(name.endswith("num_batches_tracked") for name in missing)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), model(x))
