"""The published signs of collapse, in small: a network of two layers learns random points from noisy views.

DINO without its centre, or with one that moves too slowly (momentum .999), puts every point on one prototype, and with
the published momentum of .9 does not (Caron et al. 2021, figure 7 and appendix D). SimSiam without its stop-gradient
maps every point to one direction, and with it does not (Chen and He 2021, section 4.1).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssljax.losses import (
    centered_softmax,
    dino,
    embedding_std,
    entropy,
    kl_to_uniform,
    l2_normalise,
    negative_cosine,
    update_center,
)

POINTS, FEATURES, HIDDEN, OUT, PROTOTYPES, STEPS = 256, 16, 64, 16, 32, 600


def layers(rng, *sizes):
    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(rng, len(shapes))
    return [
        (jax.random.normal(key, s) / jnp.sqrt(s[0]), jnp.zeros((1, s[1]))) for key, s in zip(keys, shapes, strict=True)
    ]


def mlp(params, x):
    *hidden, (last, bias) = params
    for kernel, shift in hidden:
        x = jax.nn.relu(x @ kernel + shift)
    return x @ last + bias


def train(loss, params, state, tx, *, seed, noise, after):
    """Gradient steps on two noisy views of the same points; gives the figures that `after` takes at each step."""
    rng, data = jax.random.split(jax.random.PRNGKey(seed))
    points = jax.random.normal(data, (POINTS, FEATURES))

    def step(carry, rng):
        params, state, opt_state = carry
        views = points[None] + noise * jax.random.normal(rng, (2, POINTS, FEATURES))
        value, grads = jax.value_and_grad(loss)(params, state, views)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        state, figures = after(params, state, views)
        return (params, state, opt_state), (value, *figures)

    return jax.lax.scan(step, (params, state, tx.init(params)), jax.random.split(rng, STEPS))[1]


@functools.partial(jax.jit, static_argnums=1)
def train_dino(momentum, center_used, seed):
    """Loss, entropy of the teacher's softmax and KL of its mean to uniform, f32[STEPS] each."""
    encoder, prototypes = jax.random.split(jax.random.PRNGKey(seed + 100))
    params = {
        "encoder": layers(encoder, FEATURES, HIDDEN, OUT),
        "prototypes": jax.random.normal(prototypes, (PROTOTYPES, OUT)),
    }

    def logits(params, views):
        z = jax.vmap(functools.partial(mlp, params["encoder"]))(views)
        return l2_normalise(z) @ l2_normalise(params["prototypes"]).T

    def targets(teacher, center, views):
        return centered_softmax(logits(teacher, views), center, temperature=0.04)

    def loss(params, state, views):
        teacher, center = state
        return dino(logits(params, views), targets(teacher, center, views), student_temperature=0.1)

    def after(params, state, views):
        teacher, center = state
        scores, p = logits(teacher, views), targets(teacher, center, views)
        teacher = jax.tree.map(lambda t, s: 0.97 * t + 0.03 * s, teacher, params)
        center = update_center(center, scores, momentum=momentum) if center_used else center
        return (teacher, center), (entropy(p), kl_to_uniform(p))

    state = params, jnp.zeros(PROTOTYPES)
    return train(loss, params, state, optax.adam(5e-3), seed=seed, noise=1.0, after=after)


@functools.partial(jax.jit, static_argnums=0)
def train_simsiam(stop_gradient, seed):
    """Loss and embedding_std of the projections, f32[STEPS] each."""
    encoder, predictor = jax.random.split(jax.random.PRNGKey(seed + 100))
    params = {"encoder": layers(encoder, FEATURES, HIDDEN, OUT), "predictor": layers(predictor, OUT, OUT)}

    def cosine_loss(p, z):
        """The cosine is symmetric: with its arguments swapped, `negative_cosine` has the gradient that it stops."""
        value, swapped = negative_cosine(p, z), negative_cosine(z, p)
        return value if stop_gradient else value + swapped - jax.lax.stop_gradient(swapped)

    def loss(params, state, views):
        z1, z2 = (mlp(params["encoder"], view) for view in views)
        p1, p2 = mlp(params["predictor"], z1), mlp(params["predictor"], z2)
        return (cosine_loss(p1, z2) + cosine_loss(p2, z1)) / 2

    def after(params, state, views):
        return state, (embedding_std(mlp(params["encoder"], views[0])),)

    tx = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.5, momentum=0.9))
    return train(loss, params, (), tx, seed=seed, noise=0.5, after=after)


@pytest.mark.parametrize("seed", [0, 1])
def test_dino_keeps_its_prototypes_with_the_published_center(seed):
    loss, sharpness, kl = train_dino(0.9, True, seed)
    assert float(kl[-1]) < 0.1 * np.log(PROTOTYPES)  # all prototypes are used
    assert 0.1 * np.log(PROTOTYPES) < float(sharpness[-1]) < 0.9 * np.log(PROTOTYPES)  # and each point has its own
    assert float(loss[-1]) > 1


@pytest.mark.parametrize("momentum, center_used", [(0.9, False), (0.999, True)], ids=["no center", "momentum .999"])
@pytest.mark.parametrize("seed", [0, 1])
def test_dino_collapses_without_a_center_or_with_a_slow_one(momentum, center_used, seed):
    loss, sharpness, kl = train_dino(momentum, center_used, seed)
    assert float(kl[-1]) > 0.95 * np.log(PROTOTYPES)  # one prototype takes every point
    assert float(sharpness[-1]) < 0.05 * np.log(PROTOTYPES)
    assert float(loss[-1]) < 0.1  # which is the best that the loss can be


@pytest.mark.parametrize("seed", [0, 1])
def test_simsiam_needs_its_stop_gradient(seed):
    loss, std = train_simsiam(True, seed)
    collapsed_loss, collapsed_std = train_simsiam(False, seed)
    assert float(std[-1]) > 0.3 and float(loss[-1]) < -0.7  # it learns, and stays spread
    assert float(collapsed_std[-1]) < 0.02 and float(collapsed_loss[-1]) < -0.99
