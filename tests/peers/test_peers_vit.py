"""Vision transformers with the weights of timm's and transformers' models give what those give."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from ssljax.models import ViT
from ssljax.models.weights import names
from ssljax.models.weights.vit import layout, resized_positions

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SMALL = ViT(width=32, depth=2, heads=2, patch=8)


def randomized(model):
    """The model in evaluation mode, with random parameters: its own would leave much at zero or one."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data + 0.1 * noise
    return model.eval()


def tensors_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def converted(module, tensors):
    """Our variables; every tensor must be taken or known to be of no use."""
    flat, report = names.to_ours(layout(module), tensors)
    assert report.complete, report
    return unflatten_dict(flat, sep="/")


def assert_equal(module, tensors, theirs, rows=32, columns=32):
    """Ours from `tensors` give what `theirs`, images [B, 3, H, W] → [B, C], gives."""
    images = np.random.default_rng(0).normal(size=(2, 3, rows, columns)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    apply = jax.jit(functools.partial(module.apply, train=False))
    ours = apply(converted(module, tensors), images.transpose(0, 2, 3, 1))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def of_timm(name, **options):
    return randomized(timm.create_model(name, num_classes=0, **options))


@pytest.mark.parametrize(
    "name, module",
    [
        ("vit_tiny_patch16_224", ViT("Ti")),
        ("deit_small_patch16_224", ViT("S")),
        ("vit_base_patch8_224.dino", ViT("B", patch=8)),
        ("vit_large_patch16_224", ViT("L", depth=2)),
        ("vit_small_patch14_dinov2", ViT("S", patch=14, layer_scale=1e-5)),
        ("vit_base_patch14_reg4_dinov2", ViT("B", patch=14, layer_scale=1e-5, registers=4)),
        ("deit3_small_patch16_224", ViT("S", layer_scale=1e-6)),
    ],
)
def test_timm(name, module):
    side, depth = 2 * module.patch, module.sizes()[1]
    model = of_timm(name, img_size=side, depth=depth)
    assert_equal(module, tensors_of(model), model, side, side)


HF_SMALL = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def of_hugging_face(kind, **options):
    """A randomised model `kind`, such as Dinov2, of the sizes of SMALL."""
    config = getattr(transformers, f"{kind}Config")(**HF_SMALL, **options)
    return randomized(getattr(transformers, f"{kind}Model")(config))


@pytest.mark.parametrize("saved", [True, False], ids=["as-in-files", "as-in-memory"])
@pytest.mark.parametrize(
    "kind, module, options",
    [
        ("ViT", SMALL, {"intermediate_size": 128}),
        ("Dinov2", SMALL.clone(layer_scale=1.0), {}),
        ("Dinov2WithRegisters", SMALL.clone(layer_scale=1.0, registers=3), {"num_register_tokens": 3}),
    ],
)
def test_hugging_face(kind, module, options, saved, tmp_path):
    model = of_hugging_face(kind, **options)
    tensors = tensors_of(model)
    if saved:  # transformers renames while it writes: to the names that its hub's files have
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
    assert_equal(module, tensors, lambda x: model(x).last_hidden_state[:, 0])


@pytest.mark.parametrize("old, new", [((4, 4), (7, 9)), ((16, 16), (14, 5)), ((7, 7), (3, 7)), ((5, 5), (5, 5))])
def test_positions_of_another_grid(old, new):
    positions = np.random.default_rng(0).normal(size=(*old, 6)).astype(np.float32)
    flat = torch.from_numpy(positions.reshape(1, -1, 6))
    theirs = timm.layers.resample_abs_pos_embed(flat, new, old, num_prefix_tokens=0)
    np.testing.assert_allclose(resized_positions(positions, new), theirs.numpy().reshape(*new, 6), atol=1e-5)
