"""What is said of a file's architecture decides what its tensors do not tell, and other networks are refused."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from ssljax.cli.main import run as ssljax
from ssljax.config import resolved
from ssljax.models import EfficientNet, Pretrained, ResNet, ViT, weights_bytes
from ssljax.models.weights.layouts import guess, layout_of
from ssljax.models.weights.names import to_ours, to_timm
from ssljax.types import UserError

RESNET, VIT = ResNet(depth=10, width=4), ViT(width=64, depth=1, heads=1, patch=8)
SIGLIP = VIT.clone(pooling="attention", feed_forward="gelu_tanh")
ROPE = VIT.clone(positions="rope", registers=2, epsilon=1e-5)
B0 = EfficientNet("B0")
X = jnp.ones((1, 16, 16, 3))


@functools.cache
def variables(module):
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), X)
    return {name: np.ones(x.shape, np.float32) for name, x in flatten_dict(shapes, sep="/").items()}


def tensors_of(module):
    return to_timm(layout_of(module), variables(module))


def saved(folder, module, config=None):
    save_file(tensors_of(module), folder / "theirs.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder / "theirs.safetensors")


def begin(module, path):
    return jax.eval_shape(lambda: Pretrained(module, path).init(jax.random.PRNGKey(0), X, train=False))


@pytest.mark.parametrize(
    "module, config",
    [
        (RESNET, {"architecture": "resnet18"}),
        (RESNET, {"architectures": ["Words"], "model_type": "resnet"}),
        (RESNET, {}),
        (VIT, {"architecture": "vit_small_patch16_224.augreg"}),
        (VIT, {"architecture": "deit_base_patch16_224"}),
        (VIT, {"layer_norm_eps": 1e-6, "hidden_act": "gelu", "num_attention_heads": 1}),
        (ROPE, {"architecture": "vit_small_patch16_dinov3"}),
    ],
)
def test_what_is_said_and_true_changes_nothing(tmp_path, module, config):
    begin(module, saved(tmp_path, module, config))


@pytest.mark.parametrize(
    "module, config, sentence",
    [
        (RESNET, {"architecture": "resnetaa50"}, "architecture is resnetaa50, which ssljax does not have"),
        (RESNET, {"architecture": "resnetblur18"}, "resnetblur18"),
        (RESNET, {"architecture": "resnet50_gn"}, "resnet50_gn"),
        (RESNET, {"architecture": "vit_small_patch16_224"}, "vit_small_patch16_224, not that of ResNet"),
        (RESNET, {"architecture": "resnet18", "pretrained_cfg": {"mean": 3, "std": 1}}, "cannot be read"),
        (VIT, {"architecture": "vit_small_patch16_rope_224"}, "which ssljax does not have"),
        (VIT, {"architecture": "vit_small_patch16_dinov3"}, "has no positions=learnt"),
        (VIT, {"layer_norm_eps": 1e-12}, "are of ViT(patch=8, width=64, depth=1, heads=1, epsilon=1e-12), not of ViT("),
        (VIT, {"hidden_act": "gelu_new"}, "feed_forward='gelu_tanh'"),
        (VIT, {"hidden_act": "quick_gelu"}, "hidden_act=quick_gelu, which ViT does not have"),
        (VIT, {"num_attention_heads": 2}, "heads=2"),
        (VIT, {"vision_config": {"num_attention_heads": 2}}, "heads=2"),
    ],
)
def test_another_architecture_beside_the_file_is_refused(tmp_path, module, config, sentence):
    with pytest.raises(UserError) as error:
        begin(module, saved(tmp_path, module, config))
    assert sentence in str(error.value)


def test_the_module_in_our_own_file_is_heeded(tmp_path):
    path, stated = tmp_path / "ours.safetensors", {"module": json.dumps(resolved(VIT.clone(epsilon=1e-5)))}
    path.write_bytes(weights_bytes({"encoder": variables(VIT)}, stated))
    begin(VIT.clone(epsilon=1e-5), str(path))
    with pytest.raises(UserError, match="epsilon=1e-05"):
        begin(VIT, str(path))


def test_import_asks_where_the_tensors_do_not_tell(tmp_path, capsys):
    path = saved(tmp_path, SIGLIP)
    assert ssljax(["import", path]) == 2
    said = capsys.readouterr().err
    assert "does not say which it is of" in said and "feed_forward='gelu_tanh'" in said
    for name, kind in {"base_patch16_siglip_224": "'gelu'", "base_patch32_siglip_256": "'gelu_tanh'"}.items():
        half = {"mean": [0.5] * 3, "std": [0.5] * 3}
        module = SIGLIP.clone(feed_forward=kind.strip("'"))
        saved(tmp_path, SIGLIP, {"architecture": f"vit_{name}", "pretrained_cfg": half})
        begin(module, path)


def test_import_asks_for_the_conventions_of_an_efficientnet(tmp_path, capsys):
    path = saved(tmp_path, B0)
    assert ssljax(["import", path]) == 2
    said = "".join(capsys.readouterr().err.split())
    assert "conventions='torch'" in said and "conventions='tensorflow'" in said
    saved(tmp_path, B0, {"architecture": "tf_efficientnet_b0"})
    with pytest.raises(UserError, match="are of EfficientNet\\(conventions='tensorflow'\\), not of EfficientNet\\(\\)"):
        begin(B0, path)
    assert ssljax(["import", path]) == 0
    assert "Pretrained(EfficientNet(conventions='tensorflow')," in capsys.readouterr().out


def test_a_rope_vit_that_is_not_dinov3_is_not_taken_for_one():
    tensors = tensors_of(ROPE)
    tensors = {name: x for name, x in tensors.items() if "_bias" not in name}
    for key, mask, complete in ((0, None, True), (1, None, False), (1, 0, True), (1, np.nan, True), (1, 1, False)):
        bias = {"blocks.0.attn.qkv.bias": np.repeat(np.float32([1, key, 1]), 64)}
        if mask is not None:
            bias["blocks.0.attn.qkv.bias_mask"] = np.repeat(np.float32([1, mask, 1]), 64)
        assert to_ours(layout_of(ROPE), tensors | bias)[1].complete == complete
    assert guess(tensors) is not None
    assert guess({name: x for name, x in tensors.items() if name != "reg_token"}) is None


def test_flaxs_gelu_is_by_tanh_in_big_visions_files():
    timm = tensors_of(VIT)
    assert guess(timm).feed_forward == "gelu"
    patches = timm.pop("patch_embed.proj.weight")
    named = timm | {
        "embedding/kernel": patches.transpose(2, 3, 1, 0),
        "embedding/bias": timm.pop("patch_embed.proj.bias"),
    }
    assert guess(named) == VIT.clone(feed_forward="gelu_tanh")
