"""The precision that the compiler is asked for, of every product of matrices and every convolution."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import pytest
from every_loss import ALL, LABELS, MEMORY, OTHERS, PAIRS, Z
from methods import METHODS, NAMES, crops_of
from target import mesh_of
from tiny import CROPS, EXPERIMENT, SIMCLR, photos

from ssljax.config import Experiment
from ssljax.evaluation.evaluators import linear_probe
from ssljax.evaluation.nearest import _nearest
from ssljax.evaluation.rerank import reciprocal
from ssljax.models import ResNet, ViT
from ssljax.train import init_state, train_step
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.types import UserError
from ssljax.views import EcommerceViews, Masked, MultiCrop
from ssljax.views.disturbances import DISTURBANCES
from ssljax.views.resample import PRECISION


def asked_for(lowered):
    """The precisions in the StableHLO of a lowered function, of both sides of every product and convolution."""
    lines = [x for x in lowered.as_text().splitlines() if re.search(r"stablehlo\.(dot|dot_general|convolution)\b", x)]
    found = [re.search(r"precision(?:_config)? = \[(.*?)\]", x) for x in lines]
    return {side for match in found for side in re.findall("DEFAULT|HIGHEST|HIGH", match[1] if match else "DEFAULT")}


def step_of(method, views, platform="cpu", **settings):
    """The lowered training step of a method, of views that are made already."""
    tx = EXPERIMENT.optimizer.build(10)
    parts = dict(augment=lambda rng, batch: batch, method=method, tx=tx)
    batch = jax.eval_shape(views, jax.random.PRNGKey(0), photos())
    state = jax.eval_shape(functools.partial(init_state, **parts), jax.random.PRNGKey(0), batch)
    step = jax.jit(functools.partial(train_step, **parts, total_steps=10, **settings))
    return step.trace(state, batch).lower(lowering_platforms=(platform,))


@pytest.fixture
def coarse():
    """As an accelerator's own default would have it."""
    with jax.default_matmul_precision("bfloat16"):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_in_float32_whatever_the_backend_prefers(name, coarse):
    assert asked_for(step_of(METHODS[name], crops_of(name))) == {"HIGHEST"}


@pytest.mark.parametrize("encoder", [ResNet(depth=10, width=4), ViT(patch=8, width=16, depth=1, heads=1)])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_so_it_is_in_the_forms_for_accelerators(encoder, platform, coarse):
    method = dataclasses.replace(SIMCLR, encoder=encoder)
    with jax.sharding.use_abstract_mesh(mesh_of(platform)):
        assert asked_for(step_of(method, CROPS, platform)) == {"HIGHEST"}


@pytest.mark.parametrize("precision, level", [("tensorfloat32", "HIGH"), ("bfloat16", "DEFAULT")])
def test_the_setting_is_that_of_the_network_and_of_it_alone(precision, level):
    assert asked_for(step_of(SIMCLR, CROPS, precision=precision)) == {level, "HIGHEST"}
    setup = Setup.of(dataclasses.replace(EXPERIMENT, precision=precision))
    lowered = setup.spec.step().lower(setup.spec.shapes, setup.spec.batch)
    assert asked_for(lowered) == {level, "HIGHEST", PRECISION.upper()}  # the last is the views'


def test_photos_are_embedded_in_float32_unless_asked_otherwise(tmp_path, coarse):
    for evaluation, level in (("float32", "HIGHEST"), ("tensorfloat32", "HIGH")):
        setup = Setup.of(dataclasses.replace(EXPERIMENT, precision="bfloat16", evaluation_precision=evaluation))
        state, embedder = setup.spec.shapes, setup.embedder(Run(tmp_path))
        for network in embedder.networks:
            lowered = embedder._apply[network].lower(state.params, state.aux, photos())
            assert asked_for(lowered) == {level, "HIGHEST"}  # the view is always float32


@pytest.mark.parametrize("name", ALL)
def test_losses_of_labels_are_in_float32(name, coarse):
    loss = lambda z: ALL[name](z, LABELS)  # noqa: E731
    assert asked_for(jax.jit(jax.value_and_grad(loss)).lower(Z)) <= {"HIGHEST"}


@pytest.mark.parametrize("loss", OTHERS)
def test_other_losses_are_in_float32(loss, coarse):
    lowered = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(Z, MEMORY)
    assert asked_for(lowered) <= {"HIGHEST"}


def test_there_are_products_in_losses(coarse):
    """Otherwise the two tests before would hold of anything."""
    loss = lambda z: PAIRS["triplet"](z, LABELS)  # noqa: E731
    assert asked_for(jax.jit(loss).lower(Z)) == {"HIGHEST"}
    assert asked_for(jax.jit(lambda z: z @ z.T).lower(Z)) == {"DEFAULT"}


@pytest.mark.parametrize("views", [CROPS, EcommerceViews(size=16), Masked(MultiCrop(size=16, local_size=8), patch=4)])
@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_views_have_a_precision_of_their_own_and_those_that_are_embedded_are_in_float32(views, platform, coarse):
    with jax.sharding.use_abstract_mesh(mesh_of(platform)):
        train = jax.jit(views.__call__).trace(jax.random.PRNGKey(0), photos())
        assert asked_for(train.lower(lowering_platforms=(platform,))) == {PRECISION.upper()}
        evaluation = jax.jit(views.evaluation).trace(photos())
        assert asked_for(evaluation.lower(lowering_platforms=(platform,))) == {"HIGHEST"}


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda d: type(d).__name__)
def test_so_do_disturbances(disturbance, coarse):
    lowered = jax.jit(disturbance.disturb).lower(jax.random.key(0), jnp.ones((8, 3, 20, 20)), jnp.ones(8))
    assert asked_for(lowered) <= {PRECISION.upper(), "HIGHEST"}


def test_search_and_classification_are_in_float32(coarse):
    x, rows = jnp.ones((8, 4)), jnp.zeros(8, jnp.int32)
    weights = jnp.ones((2, 4, 3)), jnp.ones((2, 3))
    rates = jnp.ones(2)
    epoch = linear_probe._epoch.lower((weights, weights), jax.random.key(0), x, rows, rates, rates, jnp.ones(2), 4)
    for lowered in (
        _nearest.lower(x, x, rows, 2),
        reciprocal._nearest.lower(x, jnp.ones((8, 8)), rows, x, jnp.float32(0.5), 2),
        epoch,
        linear_probe._right.lower(weights, x, rows),
    ):
        assert asked_for(lowered) == {"HIGHEST"}


@pytest.mark.parametrize("field", ["precision", "evaluation_precision"])
@pytest.mark.parametrize("value", ["float16", "highest", "BF16_BF16_F32", None, 32])
def test_what_is_no_precision_is_refused(field, value):
    with pytest.raises(UserError, match=rf"{field}=.* must be .*float32.*tensorfloat32.*bfloat16"):
        Experiment(name="x", **{field: value})


def test_a_matrix_of_bfloat16_is_one_with_any_setting():
    """`dtype` is the model's: the setup is of float32 alone, and changes nothing in what is bfloat16."""
    method = dataclasses.replace(SIMCLR, encoder=SIMCLR.encoder.clone(dtype="bfloat16"))
    text = step_of(method, CROPS).as_text()
    assert re.search(r"stablehlo\.dot_general.*xbf16>, tensor<.*xbf16>\) -> tensor<.*xf32>", text)
