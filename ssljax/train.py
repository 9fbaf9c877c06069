"""The training step: a pure function of state and batch to state and metrics."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import ssljax
from ssljax.methods.base.accumulate import accumulating
from ssljax.types import Array, Batch, Method, Metrics, Precision, Progress, Scalar, TrainState, Views


def init_state(rng: Array, batch: Batch, *, augment: Views, method: Method, tx: optax.GradientTransformation) -> Any:
    """The state before the first step; `batch` gives shapes alone. `rng` is u32[2], from `jax.random.PRNGKey`."""
    views_rng, method_rng, train_rng = jax.random.split(rng, 3)
    params, aux = method.init(method_rng, augment(views_rng, batch))
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, aux=aux, opt_state=tx.init(params), rng=train_rng)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    augment: Views,
    method: Method,
    tx: optax.GradientTransformation,
    total_steps: int,
    precision: Precision = "float32",
    accumulate: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update of `state` by a batch of photos, and the figures to log (f32[] each).

    `precision` is that of the networks, as far as they compute in float32. Losses ask for float32 themselves, and views
    for a precision of their own (`views.resample.PRECISION`).
    The networks see the batch in `accumulate` parts, with the memory of one (see `ssljax.methods.base.accumulate`).
    The scopes name the parts of the step in profiles and plans, as `teacher` and `network` do inside the loss.
    """
    views_rng, method_rng = jax.random.split(jax.random.fold_in(state.rng, state.step))
    progress = Progress(state.step, total_steps)
    with jax.named_scope("views"):
        batch = augment(views_rng, batch)

    gradient = jax.value_and_grad(method.loss, has_aux=True)
    with jax.default_matmul_precision(precision), accumulating(accumulate):
        (loss, (aux, metrics)), grads = gradient(state.params, state.aux, batch, method_rng, progress)

    with jax.named_scope("optimizer"):
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(grads), **metrics}
    with jax.named_scope("teacher"):
        aux = method.after_update(params, aux, progress)

    state = TrainState(step=state.step + 1, params=params, aux=aux, opt_state=opt_state, rng=state.rng)
    return state, metrics


def train_steps(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]], state: TrainState, batches: Batch, count: Array
) -> tuple[TrainState, Metrics]:
    """`count` i32[] steps, of n at most, on batches [B, n, ...]; the figures are f32[n] each, 0 beyond `count`."""

    def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = step(carry[0], batch(i))
        return state, jax.tree.map(lambda all_steps, x: all_steps.at[i].set(x), carry[1], metrics)

    def batch(i: Scalar) -> Batch:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), batches)

    room = jax.tree.leaves(batches)[0].shape[1]
    _, metrics = jax.eval_shape(step, state, batch(0))
    return jax.lax.fori_loop(0, count, body, (state, jax.tree.map(lambda x: jnp.zeros(room, x.dtype), metrics)))


sys.modules[__name__].__class__ = ssljax.TrainModule  # so that ssljax.train(experiment) works
