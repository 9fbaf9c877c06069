"""Optimizers against their formulas, written out."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.optim import LARS, SGD, Adam, AdamW
from ssljax.schedules import Linear, value_at
from ssljax.types import Progress, UserError

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([1.0, -1.0])}
GRADS = {"kernel": jnp.array([[0.1, 0.2], [-0.3, 0.4]]), "bias": jnp.array([0.5, -0.5])}


def steps(optimizer, count, total=10):
    tx = optimizer.build(total)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(count):
        updates, state = tx.update(GRADS, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    return params


def test_sgd_with_momentum_and_decay_of_weights_alone():
    def reference(p, g, decay):
        p, g, velocity = np.asarray(p, np.float64), np.asarray(g, np.float64), 0.0
        for step in range(4):
            lr = 0.1 * (1 + np.cos(np.pi * step / 10)) / 2
            velocity = 0.9 * velocity + g + decay * p
            p = p - lr * velocity
        return p

    got = steps(SGD(lr=0.1, weight_decay=0.01), 4)
    np.testing.assert_allclose(got["kernel"], reference(PARAMS["kernel"], GRADS["kernel"], 0.01), rtol=1e-5)
    np.testing.assert_allclose(got["bias"], reference(PARAMS["bias"], GRADS["bias"], 0.0), rtol=1e-5)


def test_lars_adapts_weights_and_leaves_biases_plain():
    got = steps(LARS(lr=0.1, weight_decay=0.01, trust_coefficient=0.02, schedule=1.0), 1)
    kernel, grad = np.asarray(PARAMS["kernel"]), np.asarray(GRADS["kernel"])
    decayed = grad + 0.01 * kernel
    ratio = 0.02 * np.linalg.norm(kernel) / np.linalg.norm(decayed)
    np.testing.assert_allclose(got["kernel"], kernel - 0.1 * ratio * decayed, rtol=1e-5)
    np.testing.assert_allclose(got["bias"], PARAMS["bias"] - 0.1 * GRADS["bias"], rtol=1e-5)


def test_lars_with_a_limit_takes_the_smaller_of_ratio_and_learning_rate():
    kernel, grad = np.asarray(PARAMS["kernel"]), np.asarray(GRADS["kernel"])
    ratio = 0.02 * np.linalg.norm(kernel) / np.linalg.norm(grad)
    for lr, factor in ((10.0, ratio), (0.001, 0.001)):
        assert 0.001 < ratio < 10.0
        got = steps(LARS(lr=lr, trust_coefficient=0.02, schedule=1.0, limit=True), 1)
        np.testing.assert_allclose(got["kernel"], kernel - factor * grad, rtol=1e-5)
        np.testing.assert_allclose(got["bias"], PARAMS["bias"] - lr * GRADS["bias"], rtol=1e-5)
    still = steps(LARS(lr=1.0, trust_coefficient=0.02, schedule=0.0, limit=True), 1)
    np.testing.assert_array_equal(still["kernel"], kernel)


def test_weight_decay_follows_its_schedule():
    got = steps(SGD(lr=0.1, momentum=0.0, schedule=1.0, weight_decay=Linear(0.0, 1.0)), 3)
    kernel, grad = np.asarray(PARAMS["kernel"]), np.asarray(GRADS["kernel"])
    for step in range(3):
        kernel = kernel - 0.1 * (grad + step / 10 * kernel)
    np.testing.assert_allclose(got["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(got["bias"], PARAMS["bias"] - 0.3 * GRADS["bias"], rtol=1e-5)
    with pytest.raises(UserError, match="weight_decay must be at least 0, but it ends with -1"):
        steps(SGD(lr=0.1, weight_decay=Linear(0.0, -1.0)), 1)


@pytest.mark.parametrize("optimizer", [Adam, AdamW])
def test_adam_first_step_is_the_sign_of_the_gradient(optimizer):
    got = steps(optimizer(lr=0.1, schedule=1.0), 1)
    np.testing.assert_allclose(got["kernel"], PARAMS["kernel"] - 0.1 * np.sign(GRADS["kernel"]), rtol=1e-4)


def test_adamw_decays_weights_apart_from_the_moments():
    got = steps(AdamW(lr=0.1, weight_decay=0.5, schedule=1.0), 1)
    expected = PARAMS["kernel"] - 0.1 * (np.sign(GRADS["kernel"]) + 0.5 * PARAMS["kernel"])
    np.testing.assert_allclose(got["kernel"], expected, rtol=1e-4)
    np.testing.assert_allclose(got["bias"], PARAMS["bias"] - 0.1 * np.sign(GRADS["bias"]), rtol=1e-4)


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW, LARS])
def test_weights_decay_also_where_the_gradient_is_zero(optimizer):
    """PyTorch's rule: a gradient of zero is a gradient. Biases do not decay."""
    tx = optimizer(lr=0.1, weight_decay=0.5, schedule=1.0).build(10)
    grads, kernel = jax.tree.map(jnp.zeros_like, PARAMS), np.asarray(PARAMS["kernel"], np.float64)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    expected = {
        SGD: -0.1 * 0.5 * kernel,
        Adam: -0.1 * np.sign(kernel),
        AdamW: -0.1 * 0.5 * kernel,
        LARS: -0.1 * 0.001 * kernel,  # the ratio of the norms of weights and decay is 1 / .5
    }[optimizer]
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-4)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))


def freezing(*paths):
    """All that the optimizer asks a method for."""
    return types.SimpleNamespace(frozen_until=dict.fromkeys(paths, 0.1))


FREEZABLE = {"head": {"last": jnp.array([[1.0, 2.0]]), "last_but_one": jnp.array([[1.0, 2.0]])}}


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(lr=0.1, weight_decay=0.5, nesterov=True, warmup=0.5),
        Adam(lr=0.1, weight_decay=0.5),
        AdamW(lr=0.1, weight_decay=Linear(0.1, 0.5)),
        LARS(lr=0.1, weight_decay=0.5),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_what_is_frozen_begins_where_it_thaws_at_the_rate_of_that_step(optimizer):
    total, first = 105, 11  # .1 of 105 steps is 10.5, which is 11
    tx = optimizer.build(total, freezing("head/last"))
    update = jax.jit(tx.update)
    params, state = FREEZABLE, tx.init(FREEZABLE)
    for step in range(first):
        updates, state = update(jax.tree.map(jnp.cos, params), state, params)
        np.testing.assert_array_equal(updates["head"]["last"], np.zeros((1, 2)), err_msg=f"step {step}")
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    assert np.any(params["head"]["last_but_one"] != FREEZABLE["head"]["last_but_one"])
    # From here on it is as a rule that was never called before, whose schedules are at this step.
    late = optimizer.rule(
        lambda step: optimizer.learning_rate(Progress(step + first, total)),
        lambda step: value_at(optimizer.weight_decay, Progress(step + first, total)),
    )
    alone, late_state = params["head"]["last"], late.init(params["head"]["last"])
    for _ in range(3):
        updates, state = update(jax.tree.map(jnp.cos, params), state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        moved, late_state = late.update(jnp.cos(alone), late_state, alone)
        alone = alone + moved
        np.testing.assert_allclose(params["head"]["last"], alone, rtol=1e-6)


def test_what_is_frozen_does_not_count_when_gradients_are_clipped():
    tx = SGD(lr=1.0, momentum=0.0, schedule=1.0, clip_norm=1.0).build(10, freezing("head/last"))
    grads = {"head": {"last": jnp.array([[30.0, 40.0]]), "last_but_one": jnp.array([[3.0, 4.0]])}}
    updates, state = tx.update(grads, tx.init(FREEZABLE), FREEZABLE)
    np.testing.assert_allclose(updates["head"]["last_but_one"], [[-0.6, -0.8]], rtol=1e-5)
    updates, _ = tx.update(grads, state, FREEZABLE)
    np.testing.assert_allclose(updates["head"]["last"][0, 0] / updates["head"]["last_but_one"][0, 0], 10, rtol=1e-5)


def test_a_path_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"^frozen_until names head/lost, where there are no parameters$"):
        SGD(lr=0.1).build(10, freezing("head/lost", "head/last")).init(FREEZABLE)


def test_the_state_of_an_optimizer_that_freezes_does_not_depend_on_the_number_of_steps():
    shapes = [jax.tree.structure(SGD(lr=0.1).build(n, freezing("head/last")).init(FREEZABLE)) for n in (10, 1000)]
    assert shapes[0] == shapes[1]


def test_clipping_bounds_the_update():
    got = steps(SGD(lr=1.0, momentum=0.0, schedule=1.0, clip_norm=0.1), 1)
    moved = jax.tree.map(lambda a, b: a - b, got, PARAMS)
    assert np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(moved))) == pytest.approx(0.1, rel=1e-4)


def test_warmup_is_a_share_of_training():
    optimizer = SGD(lr=2.0, warmup=0.5)
    rates = [optimizer.learning_rate(Progress(step, 10)) for step in (0, 1, 5, 10)]
    np.testing.assert_allclose(rates, [0.0, 0.4, 2.0, 0.0], atol=1e-6)


ENCODED = {
    "encoder": {"stem_conv": {"kernel": jnp.ones((2, 2))}, "stage1_block0": {"kernel": jnp.ones((2, 2))}}
    | {"stage2_block0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}},
    "class_vectors": jnp.ones((3, 2)),
}
RULES = [SGD(lr=0.1, weight_decay=0.1), LARS(lr=0.1, weight_decay=0.1), Adam(lr=0.1), AdamW(lr=0.1, weight_decay=0.1)]


def moved(optimizer):
    """What three steps add to each part, with gradients that are the parameters."""
    tx, total = optimizer.build(10), jax.tree.map(jnp.zeros_like, ENCODED)
    state = tx.init(ENCODED)
    for _ in range(3):
        updates, state = tx.update(ENCODED, state, ENCODED)  # the same point throughout, so that steps are proportional
        total = jax.tree.map(lambda t, u: t + u, total, updates)
    return total


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_layers_learn_the_slower_the_earlier_they_are_and_the_head_at_a_rate_of_its_own(rule):
    plain, by_part = moved(rule), moved(dataclasses.replace(rule, layer_decay=0.5, head_lr=0.3))
    factors = {"stem_conv": 1 / 8, "stage1_block0": 1 / 4, "stage2_block0": 1 / 2, "norm": 1.0}
    for name, factor in factors.items():
        expected = jax.tree.map(lambda x, f=factor: f * x, plain["encoder"][name])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), by_part["encoder"][name], expected)
    np.testing.assert_allclose(by_part["class_vectors"], 3 * plain["class_vectors"], rtol=1e-5)


def test_rates_by_part_that_cannot_be_are_refused():
    for settings, sentence in (
        ({"layer_decay": 0.0}, "optimizer.layer_decay=0.0 must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, "optimizer.layer_decay=1.5 must be above 0"),
        ({"head_lr": -1.0}, "optimizer.head_lr=-1.0 must be at least 0"),
    ):
        with pytest.raises(UserError, match=sentence):
            SGD(lr=0.1, **settings)
    with pytest.raises(UserError, match=r"optimizer.layer_decay=0.5 needs an encoder made of blocks"):
        SGD(lr=0.1, layer_decay=0.5).build(10).init(PARAMS)
    SGD(lr=0.1, head_lr=0.5).build(10).init(PARAMS)


def test_clipping_counts_the_gradient_before_the_rates_by_part():
    clipped = moved(SGD(lr=0.1, clip_norm=0.1, head_lr=0.2))
    plain = moved(SGD(lr=0.1, clip_norm=0.1))
    np.testing.assert_allclose(clipped["class_vectors"], 2 * plain["class_vectors"], rtol=1e-5)
    np.testing.assert_allclose(clipped["encoder"]["norm"]["scale"], plain["encoder"]["norm"]["scale"], rtol=1e-5)


def test_a_frozen_encoder_has_no_blocks_to_decay():
    params = {"encoder": {}, "projector": {"kernel": jnp.ones((2, 2))}}
    plain, decayed = (SGD(lr=0.1, head_lr=0.3, layer_decay=decay).build(10) for decay in (1.0, 0.5))
    updates = [tx.update(params, tx.init(params), params)[0] for tx in (plain, decayed)]
    np.testing.assert_array_equal(*(update["projector"]["kernel"] for update in updates))
