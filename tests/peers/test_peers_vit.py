"""Vision transformers with the weights of timm's and transformers' models give what those give."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
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
        parameter.data = parameter.data + 0.05 * noise
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
    torch.manual_seed(0)
    return randomized(timm.create_model(name, num_classes=0, **options))


@pytest.mark.parametrize(
    "name, module",
    [
        ("vit_tiny_patch16_224", ViT("Ti", depth=2)),
        ("deit_small_patch16_224", ViT("S", depth=2)),
        ("vit_base_patch8_224.dino", ViT("B", patch=8, depth=2)),
        ("vit_large_patch16_224", ViT("L", depth=2)),
        ("vit_small_patch14_dinov2", ViT("S", patch=14, depth=2, layer_scale=1e-5)),
        ("vit_base_patch14_reg4_dinov2", ViT("B", patch=14, depth=2, layer_scale=1e-5, registers=4)),
        ("deit3_small_patch16_224", ViT("S", depth=2, layer_scale=1e-6)),
        ("vit_giant_patch14_dinov2", ViT("g", patch=14, depth=1, layer_scale=1e-5, feed_forward="swiglu")),
        (
            "vit_giant_patch14_reg4_dinov2",
            ViT("g", patch=14, depth=1, layer_scale=1e-5, feed_forward="swiglu", registers=4),
        ),
        ("vit_base_patch16_siglip_224", ViT("B", depth=2, pooling="attention")),
        ("vit_large_patch16_siglip_512", ViT("L", depth=1, pooling="attention", feed_forward="gelu_tanh")),
        ("vit_so400m_patch16_siglip_384", ViT("So400m", depth=1, pooling="attention", feed_forward="gelu_tanh")),
    ],
)
def test_timm(name, module):
    side, depth = 2 * module.patch, module.sizes()[1]
    model = of_timm(name, img_size=side, depth=depth)
    assert_equal(module, tensors_of(model), model, side, side)


def test_gradients():
    """Of the parameters: torch's are brought into our order as the parameters are."""
    module = ViT("Ti", depth=2, layer_scale=1e-5)
    model = of_timm("vit_tiny_patch16_224", img_size=32, depth=2, init_values=1e-5)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    model(torch.from_numpy(images)).pow(3).mean().backward()
    expected = converted(module, {name: x.grad.numpy() for name, x in model.named_parameters()})

    @jax.jit
    def loss(variables):
        return (module.apply(variables, images.transpose(0, 2, 3, 1), train=False) ** 3).mean()

    gradients = jax.grad(loss)(converted(module, tensors_of(model)))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 0.1
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), gradients, expected)


DINOV3 = ViT("S", depth=2, positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5)


@pytest.mark.parametrize(
    "name, module",
    [
        ("vit_tiny_patch16_dinov3_qkvb", DINOV3.clone(variant="Ti")),
        ("vit_small_patch16_dinov3", DINOV3.clone(qkv_bias=False)),
        ("vit_small_plus_patch16_dinov3_qkvb", DINOV3.clone(feed_forward="swiglu")),
        ("vit_base_patch16_dinov3", DINOV3.clone(variant="B", qkv_bias=False)),
        ("vit_large_patch16_dinov3", DINOV3.clone(variant="L", depth=1, qkv_bias=False)),
        (
            "vit_huge_plus_patch16_dinov3",
            DINOV3.clone(variant="H+", depth=1, qkv_bias=False, feed_forward="swiglu"),
        ),
    ],
)
def test_timm_dinov3(name, module):
    model = of_timm(name, depth=module.sizes()[1], global_pool="token")
    assert_equal(module, tensors_of(model), model, 48, 80)


HF_SMALL = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def of_hugging_face(kind, **options):
    """A randomised model `kind`, such as Dinov2, of the sizes of SMALL."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**HF_SMALL, **options)
    return randomized(getattr(transformers, f"{kind}Model")(config))


HF_DINOV3 = SMALL.clone(positions="rope", layer_scale=1.0, registers=4, epsilon=1e-5)


@pytest.mark.parametrize("saved", [True, False], ids=["as-in-files", "as-in-memory"])
@pytest.mark.parametrize(
    "kind, module, options",
    [
        ("ViT", SMALL.clone(epsilon=1e-12), {"intermediate_size": 128}),
        ("Dinov2", SMALL.clone(layer_scale=1.0), {}),
        ("Dinov2", SMALL.clone(layer_scale=1.0, feed_forward="swiglu", hidden=88), {"use_swiglu_ffn": True}),
        ("Dinov2WithRegisters", SMALL.clone(layer_scale=1.0, registers=3), {"num_register_tokens": 3}),
        ("DINOv3ViT", HF_DINOV3, {"intermediate_size": 128, "num_register_tokens": 4}),
        (
            "DINOv3ViT",
            HF_DINOV3.clone(feed_forward="swiglu", hidden=40),
            {"intermediate_size": 40, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
        ),
        ("SiglipVision", SMALL.clone(pooling="attention", feed_forward="gelu_tanh"), {"intermediate_size": 128}),
    ],
)
def test_hugging_face(kind, module, options, saved, tmp_path):
    model = of_hugging_face(kind, **options)
    tensors = tensors_of(model)
    if saved:  # transformers renames while it writes: to the names that its hub's files have
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
    pooled = module.pooling == "attention"
    assert_equal(module, tensors, lambda x: model(x).pooler_output if pooled else model(x).last_hidden_state[:, 0])


@pytest.mark.parametrize("old, new", [((4, 4), (7, 9)), ((16, 16), (14, 5)), ((7, 7), (3, 7)), ((5, 5), (5, 5))])
def test_positions_of_another_grid(old, new):
    positions = np.random.default_rng(0).normal(size=(*old, 6)).astype(np.float32)
    flat = torch.from_numpy(positions.reshape(1, -1, 6))
    theirs = timm.layers.resample_abs_pos_embed(flat, new, old, num_prefix_tokens=0)
    np.testing.assert_allclose(resized_positions(positions, new), theirs.numpy().reshape(*new, 6), atol=1e-5)


def big_vision_file(path, prefix, pool, stacked, width=192, hidden=768, heads=3, depth=2, patch=16, tokens=4):
    """Random weights in the names and shapes that big_vision writes."""
    rng = np.random.default_rng(0)
    head = width // heads
    attention = {f"{part}/kernel": (width, heads, head) for part in ("query", "key", "value")}
    attention |= {f"{part}/bias": (heads, head) for part in ("query", "key", "value")}
    attention |= {"out/kernel": (heads, head, width), "out/bias": (width,)}
    mlp = {"Dense_0/kernel": (width, hidden), "Dense_0/bias": (hidden,)}
    mlp |= {"Dense_1/kernel": (hidden, width), "Dense_1/bias": (width,)}
    norm = {"scale": (width,), "bias": (width,)}
    both = {"MultiHeadDotProductAttention_0": attention, "MlpBlock_0": mlp, "LayerNorm_0": norm}
    block = flatten_dict({**both, "LayerNorm_1": norm}, sep="/")
    shapes = {"embedding": {"kernel": (patch, patch, 3, width), "bias": (width,)}, "Transformer/encoder_norm": norm}
    shapes["pos_embedding"] = (1, tokens + (not pool), width)
    if pool:
        shapes["MAPHead_0"] = {**both, "probe": (1, 1, width)}
    else:
        shapes["cls"] = (1, 1, width)
    if stacked:
        shapes["Transformer/encoderblock"] = {name: (depth, *shape) for name, shape in block.items()}
    else:
        shapes |= {f"Transformer/encoderblock_{i}": block for i in range(depth)}
    flat = flatten_dict(shapes, sep="/")
    tensors = {prefix + name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in flat.items()}
    np.savez(path, **tensors)
    return tensors


@pytest.mark.parametrize("pool, stacked", [(True, True), (True, False), (False, True)])
def test_big_vision(pool, stacked, tmp_path):
    """Its own files, in JAX's order; timm reads them, too."""
    path = tmp_path / "model.npz"
    tensors = big_vision_file(path, "params/img/" if pool else "params/", pool, stacked)
    options = {"class_token": False, "global_pool": "map"} if pool else {}
    model = of_timm("vit_tiny_patch16_224", img_size=32, depth=2, act_layer="gelu_tanh", **options)
    model.load_pretrained(str(path))
    module = ViT("Ti", depth=2, feed_forward="gelu_tanh", pooling="attention" if pool else "cls")
    others = {f"params/{name}": np.ones(1, np.float32) for name in ("t", "b", "txt/head/bias") if pool}
    assert_equal(module, tensors | others, model)
