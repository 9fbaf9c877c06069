"""Accumulation: the loss and gradient of the whole batch, with the memory of a part, and nothing more that travels."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods import METHODS, TITLED, crops_of
from tiny import CROPS, ENCODER, EXPERIMENT, MOCO, Training, seen

from ssljax.methods import CLIP, DINO, EMA, VAE, MetricLearning, MoCo, MultiTask, SimCLR, SupCon, Triplet
from ssljax.methods.base.accumulate import accumulating
from ssljax.models import MLP, Decoder, DINOHead, Identity, ViT
from ssljax.plan.hlo import COLLECTIVES, Program
from ssljax.sharding import batch_sharding
from ssljax.training.setup import Setup
from ssljax.types import Progress, UserError

VIT = ViT(patch=4, width=16, depth=2, heads=2)
PARTS = {"encoder": VIT, "projector": MLP(hidden=(16,), out=8)}
NORMLESS = {
    "moco": MoCo(**PARTS, queue_size=48, symmetric=True),
    "simclr": SimCLR(**PARTS),
    "clip": CLIP(**PARTS, **TITLED),
    "dino": DINO(encoder=VIT, projector=DINOHead(hidden=(16,), bottleneck=8, out=24), teacher=EMA(momentum=0.9)),
    "metric_learning": MetricLearning(encoder=VIT, criterion=Triplet()),
    "ibot": dataclasses.replace(METHODS["ibot"], encoder=dataclasses.replace(VIT, mask_token=True)),
    "multi_task": MultiTask(
        encoder=VIT,
        tasks=(
            MetricLearning(encoder=Identity(), criterion=SupCon()),
            VAE(encoder=Identity(), projector=MLP(hidden=(), out=8), decoder=Decoder(side=8, width=8)),
        ),
    ),
}
QUICK = [("moco", 1), ("simclr", 2)]
CASES = [
    pytest.param(name, devices, marks=() if (name, devices) in QUICK else pytest.mark.slow)
    for name in NORMLESS
    for devices in (1, 2)
]


def compiled(method, views, parts, devices=1):
    """The loss, new state and gradient of a method in so many parts, compiled; and the arguments to call it with."""
    training = Training(method, views=views)
    mesh = Training(MOCO, views=CROPS, devices=devices).mesh

    def gradient(params, aux, batch):
        with accumulating(parts):
            rng, progress = jax.random.PRNGKey(1), Progress(jnp.asarray(3), 20)
            return jax.value_and_grad(method.loss, has_aux=True)(params, aux, batch, rng, progress)

    with jax.set_mesh(mesh):
        state = jax.device_get(training.state)
        batch = jax.device_put(seen(views), batch_sharding(mesh))
        arguments = state.params, state.aux, batch
        return jax.jit(gradient).lower(*arguments).compile(), arguments


def assert_equal(got, expected, tolerance=1e-5):
    """Whole trees, relative to the largest number in them."""
    scale = max(float(np.max(np.abs(x), initial=0)) for x in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale), got, expected)


@pytest.mark.parametrize("name, devices", CASES)
def test_parts_have_the_loss_and_gradient_of_the_whole_batch(name, devices):
    whole, arguments = compiled(NORMLESS[name], crops_of(name), 1, devices)
    parts, _ = compiled(NORMLESS[name], crops_of(name), 4, devices)
    (got, gradient), (expected, expected_gradient) = parts(*arguments), whole(*arguments)
    assert_equal(got, expected)
    assert_equal(gradient, expected_gradient)


def in_groups(groups):
    encoder = dataclasses.replace(ENCODER, norm_groups=groups)
    return SimCLR(encoder=encoder, projector=MLP(hidden=(16,), out=8))


def test_batch_norm_sees_a_part_as_with_so_many_groups():
    parts, arguments = compiled(in_groups(1), CROPS, 2)
    assert_equal(parts(*arguments), compiled(in_groups(2), CROPS, 1)[0](*arguments), 1e-4)


def test_shuffled_groups_are_those_of_a_part():
    encoder = dataclasses.replace(ENCODER, norm_groups=2)
    losses = []
    for shuffle in (False, True):
        parts, arguments = compiled(dataclasses.replace(MOCO, encoder=encoder, shuffle=shuffle), CROPS, 2)
        losses.append(float(parts(*arguments)[0][1][1]["positive_cosine"]))
    assert losses[0] != losses[1] and np.all(np.isfinite(losses))


def test_parts_need_the_memory_of_one():
    whole, parts = (compiled(NORMLESS["simclr"], CROPS, n)[0].memory_analysis() for n in (1, 4))
    assert parts.temp_size_in_bytes < whole.temp_size_in_bytes / 3


def in_all(program) -> Counter:
    """Kind of collective → bytes in a run of a compiled program, whose loops send as often as they run."""
    total = Counter()
    for instruction, _, times in Program(program.as_text()).walk(fused=False):
        if (kind := instruction.opcode.removesuffix("-start")) in COLLECTIVES:
            total[kind] += times * sum(shape.bytes for shape in instruction.shapes)
    return total


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(NORMLESS["simclr"], id="simclr"),
        pytest.param(NORMLESS["moco"], id="moco", marks=pytest.mark.slow),
        pytest.param(in_groups(8), id="a group on each device", marks=pytest.mark.slow),
    ],
)
def test_parts_move_nothing_more_between_devices(method):
    whole, parts = (in_all(compiled(method, CROPS, n, 8)[0]) for n in (1, 2))
    assert whole["all-reduce"] > 60_000, "the gradients"
    assert parts == pytest.approx(whole, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(in_groups(1), id="norm"),
        pytest.param(in_groups(2), id="groups"),
        pytest.param(SimCLR(encoder=VIT.clone(drop_path=0.5), projector=MLP(hidden=(16,), out=8)), id="drop path"),
    ],
)
def test_parts_on_eight_devices_are_those_of_one_that_has_the_same_items_in_them(method):
    parts, (params, aux, batch) = compiled(method, CROPS, 2, 8)
    alone, _ = compiled(method, CROPS, 2)
    places = np.arange(16).reshape(8, 2).T.ravel()  # first the first item of each device
    same = jax.tree.map(lambda x: np.asarray(x)[places], batch)
    assert_equal(parts(params, aux, batch), alone(params, aux, same), 1e-4)


@pytest.mark.parametrize("accumulate, remedy", [(0, "at least 1"), (3, "choose a divisor")])
def test_parts_that_do_not_divide_a_device_are_refused(accumulate, remedy):
    with pytest.raises(UserError, match=f"accumulate={accumulate}.*{remedy}"):
        Setup.of(dataclasses.replace(EXPERIMENT, accumulate=accumulate))


def test_groups_that_do_not_divide_a_part_are_refused():
    encoder = dataclasses.replace(ENCODER, norm_groups=8)
    with pytest.raises(UserError, match="norm_groups=8 does not divide"):
        compiled(dataclasses.replace(MOCO, encoder=encoder), CROPS, 4)
