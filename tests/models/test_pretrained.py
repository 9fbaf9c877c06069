"""Modules that begin with what a file holds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ssljax.methods import MetricLearning, MoCo, MultiTask, SupCon
from ssljax.models import MLP, Identity, Pretrained, ResNet, ViT, weights_bytes, without_files
from ssljax.sharding import make_mesh, replicated
from ssljax.types import UserError

HEAD = MLP(hidden=(6,), out=4, batch_norm=True)
X = jnp.ones((2, 5))


def initial(module, x=X):
    return jax.jit(functools.partial(module.init, train=False))(jax.random.PRNGKey(0), x)


def applied(module, variables, x=X):
    return jax.jit(functools.partial(module.apply, train=False))(variables, x)


@pytest.fixture
def file(tmp_path):
    """A file with a trained head as its projector."""
    variables = jax.tree.map(lambda x: x + 1, jax.device_get(initial(HEAD)))
    path = tmp_path / "student.safetensors"
    path.write_bytes(weights_bytes({"projector": variables}))
    return path


def test_variables_are_those_of_the_file_by_their_names(file):
    module = Pretrained(HEAD, str(file), part="projector")
    variables = jax.jit(lambda: module.init(jax.random.PRNGKey(1), X, train=False))()
    named = load_file(file)
    assert "projector/params/linear0/kernel" in named and "projector/batch_stats/norm0/mean" in named
    np.testing.assert_array_equal(variables["params"]["linear0"]["kernel"], named["projector/params/linear0/kernel"])
    assert jax.tree.structure(variables) == jax.tree.structure(initial(HEAD))
    np.testing.assert_array_equal(applied(module, variables), applied(HEAD, variables))
    assert module.out == HEAD.out


def test_file_is_read_on_several_devices_and_not_for_shapes_alone(file):
    module, mesh = Pretrained(HEAD, str(file), part="projector"), make_mesh(1, jax.devices()[:8])

    def init():
        return module.init(jax.random.PRNGKey(1), X, train=False)

    with jax.set_mesh(mesh):
        variables = jax.jit(init, out_shardings=replicated(mesh))()
    np.testing.assert_array_equal(
        variables["params"]["linear0"]["kernel"], load_file(file)["projector/params/linear0/kernel"]
    )
    assert jax.eval_shape(init)["params"]["linear0"]["kernel"].shape == (5, 6)


def test_vit_of_other_images_keeps_the_positions_of_the_file(tmp_path):
    vit, path = ViT(patch=4, width=8, depth=1, heads=2), tmp_path / "student.safetensors"
    small, large = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 16, 16, 3))
    variables = initial(vit, small)
    path.write_bytes(weights_bytes({"encoder": jax.device_get(variables)}))
    module = Pretrained(vit, str(path))
    loaded = jax.jit(lambda: module.init(jax.random.PRNGKey(1), large, train=False))()
    assert loaded["params"]["positions"].shape == (2, 2, 8)
    assert applied(module, loaded, large).shape == (1, 8)


def wrong_files(file):
    """Sentence → the module that must be refused with it."""
    garbage, other = file.with_name("garbage"), file.with_name("other")
    garbage.write_bytes(b"not tensors")
    save_file({"projector/params/extra": np.zeros(2, np.float32)}, other)
    head = Pretrained(HEAD, str(file), part="projector")
    return {
        "weights=nowhere does not exist": dataclasses.replace(head, weights="nowhere"),
        "cannot be read as weights": dataclasses.replace(head, weights=str(garbage)),
        "part=encoder is not in": dataclasses.replace(head, part="encoder"),
        "projector/batch_stats/norm0/mean is in MLP alone": dataclasses.replace(head, weights=str(other)),
        "projector/batch_stats/norm1/mean is in MLP alone": dataclasses.replace(head, module=HEAD.clone(hidden=(6, 6))),
        "is of shape (6,) there and (7,) here": dataclasses.replace(head, module=HEAD.clone(hidden=(7,))),
    }


def test_what_does_not_fit_is_refused_in_a_sentence(file):
    for sentence, module in wrong_files(file).items():
        with pytest.raises(UserError) as caught:
            jax.eval_shape(lambda module=module: module.init(jax.random.PRNGKey(0), X, train=False))
        assert sentence in str(caught.value), caught.value


def test_without_files_a_method_keeps_its_shapes(file):
    method = MoCo(encoder=ResNet(depth=10, width=4), projector=Pretrained(HEAD, str(file), part="projector"))
    plain = without_files(method)
    assert plain.projector == Pretrained(HEAD, None, part="projector") and plain.encoder is method.encoder
    assert without_files(plain) == plain
    task = MetricLearning(encoder=Identity(), projector=method.projector, criterion=SupCon())
    tasks = without_files(MultiTask(encoder=method.encoder, tasks=(task, task))).tasks
    assert [task.projector.weights for task in tasks] == [None, None]
    random = initial(plain.projector)
    assert jax.tree.structure(random) == jax.tree.structure(initial(HEAD))
