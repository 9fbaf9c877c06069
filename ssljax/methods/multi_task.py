"""MultiTask: one encoder, trained by several methods at once: ranking, attributes, reconstruction, self-supervision."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.lax import stop_gradient

from ssljax.losses import embedding_std
from ssljax.methods.base.checks import naming
from ssljax.methods.base.network import Network, variables_of
from ssljax.methods.base.one_network import OneNetwork
from ssljax.methods.base.teachers import WithTeacher
from ssljax.methods.metric_learning import MetricLearning
from ssljax.models import MLP, Identity, ResNet
from ssljax.schedules import check_schedule, value_at
from ssljax.types import (
    Array,
    Aux,
    Batch,
    CheckedMethod,
    LossAndState,
    Metrics,
    Params,
    Progress,
    PyTree,
    UserError,
    pytree,
    short,
)


@pytree
class MultiTaskAux:
    """Batch statistics of the shared encoder, and each task's own state by its name."""

    stats: Any
    tasks: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class MultiTask:
    """A weighted sum of tasks. A task is any method of one network, whose images are the shared encoder's output.

    `MultiTask(encoder=ResNet(), tasks=(MetricLearning(encoder=Identity()), AttributeClassification(encoder=Identity(),
    values=(4, 9))))`

    With `uncertainty` the weights are learnt (Kendall et al. 2018, arXiv 1705.07115): the sum is of
    weight x exp(-s) x loss + s / 2, with a learnt s, the logarithm of a variance, for each task.
    """

    encoder: Any = ResNet()
    """Maps images to embeddings, for all tasks."""
    tasks: tuple[Any, ...] = (MetricLearning(encoder=Identity()),)
    """Methods; the `encoder` of each stands between the shared encoder and its projector: Identity(), or an MLP."""
    task_weights: tuple[Any, ...] = ()
    """A number or a schedule for each task; none: 1 for all."""
    uncertainty: bool = False
    """Learn how much each task counts."""

    @property
    def network(self) -> Network:
        """The shared encoder."""
        return Network(encoder=self.encoder)

    @property
    def named(self) -> dict[str, Any]:
        """The tasks by the names of their classes, or of their criteria, numbered where one comes again."""
        names = [type(getattr(task, "criterion", task)).__name__ for task in self.tasks]
        numbers = [names[:i].count(name) for i, name in enumerate(names)]
        return {f"{n}_{k + 1}" if k else n: task for n, k, task in zip(names, numbers, self.tasks, strict=True)}

    def check(self, items: Any, batches: Any, views: int) -> None:
        """See `CheckedMethod.check`: of every task that has it."""
        for i, task in enumerate(self.tasks):
            if isinstance(task, CheckedMethod):
                with naming(f"method.tasks.{i}"):
                    task.check(items, batches, views)

    @property
    def frozen_until(self) -> dict[str, float]:
        """See `FreezingMethod.frozen_until`: what each task freezes."""
        frozen = {name: getattr(task, "frozen_until", {}) for name, task in self.named.items()}
        return {f"tasks/{name}/{path}": share for name, paths in frozen.items() for path, share in paths.items()}

    def init(self, rng: Array, batch: Batch) -> tuple[Params, Aux]:
        if not self.tasks:
            raise UserError("method.tasks=() leaves nothing to learn: name at least one method")
        if self.task_weights and len(self.task_weights) != len(self.tasks):
            raise UserError(
                f"method.task_weights has {len(self.task_weights)} numbers and there are {len(self.tasks)} "
                "tasks: give one for each, or none"
            )
        for i, weight in enumerate(self.task_weights):
            check_schedule(f"method.task_weights.{i}", weight, least=0)
        for i, task in enumerate(self.tasks):
            if not isinstance(task, OneNetwork) or isinstance(task, WithTeacher):
                raise UserError(
                    f"method.tasks.{i}={short(task)} must be a method of one network, such as MetricLearning()"
                )
            if not isinstance(task.encoder, Identity | MLP):
                raise UserError(
                    f"method.tasks.{i}.encoder={short(task.encoder)} would encode the shared encoder's output: set it "
                    "to Identity(), or to an MLP"
                )
        encoder_rng, *rngs = jax.random.split(rng, 1 + len(self.tasks))
        params, stats = self.network.init(encoder_rng, batch["views"][0])
        width = self.network.width("encoder", params, stats, batch["views"][0])
        encoded = tuple(jnp.zeros((len(view), width)) for view in batch["views"])
        tasks = {
            name: task.init(task_rng, self._seen(batch, encoded))
            for task_rng, (name, task) in zip(rngs, self.named.items(), strict=True)
        }
        params |= {"tasks": {name: task_params for name, (task_params, _) in tasks.items()}}
        if self.uncertainty:
            params |= {"log_variance": jnp.zeros(len(tasks))}
        return params, MultiTaskAux(stats, {name: task_aux for name, (_, task_aux) in tasks.items()})

    def loss(self, params: Params, aux: Aux, batch: Batch, rng: Array, progress: Progress) -> LossAndState:
        """The weighted sum. Of each task is logged its loss, and the norm of its gradient by the encoder's output.

        That is where the tasks meet, and unlike the gradients by the encoder's parameters it takes no backward pass of
        its own.
        """
        encoder_rng, *rngs = jax.random.split(rng, 1 + len(self.tasks))
        views, stats = self.network.train_crops(params, aux.stats, batch["views"], encoder_rng)
        encoded = tuple(view["encoder"] for view in views)
        total, tasks, figures = jnp.zeros(()), {}, {"embedding_std": embedding_std(encoded[0])}
        for i, (name, task) in enumerate(self.named.items()):
            at = params["tasks"][name], encoded
            loss = functools.partial(self._loss_at, task, aux.tasks[name], batch, rngs[i], progress)
            (value, (tasks[name], task_figures)), gradient = jax.value_and_grad(loss, has_aux=True)(stop_gradient(at))
            value = with_gradient(value, gradient, at)
            weight = value_at(self.task_weights[i], progress) if self.task_weights else jnp.ones(())
            if self.uncertainty:
                s = params["log_variance"][i]
                weight, total = weight * jnp.exp(-s), total + s / 2
            total += weight * value
            figures |= {f"{name}/{figure}": x for figure, x in task_figures.items()}
            figures |= {f"{name}/loss": value, f"{name}/gradient_norm": optax.tree.norm(gradient[1])}
            figures |= {f"{name}/weight": weight}
        return total, (MultiTaskAux(stats, tasks), jax.tree.map(stop_gradient, figures))

    def after_update(self, params: Params, aux: Aux, progress: Progress) -> Aux:
        """What follows the update in each task."""
        tasks = {n: t.after_update(params["tasks"][n], aux.tasks[n], progress) for n, t in self.named.items()}
        return MultiTaskAux(aux.stats, tasks)

    def embed(self, params: Params, aux: Aux, batch: Batch) -> Array:
        """See `Method.embed`: the shared encoder's output."""
        return self.network.embed(params, aux.stats, batch["views"][0])

    def weights(self, params: Params, aux: Aux) -> dict[str, PyTree]:
        """See `WeightsMethod.weights`: the encoder, and each task's modules under its name."""
        modules = variables_of({"encoder": params["encoder"]}, aux.stats)
        for name, task in self.named.items():
            modules[name] = task.weights(params["tasks"][name], aux.tasks[name])["student"]
        return {"student": modules}

    def _loss_at(
        self, task: Any, aux: Aux, batch: Batch, rng: Array, progress: Progress, at: tuple[Params, tuple[Array, ...]]
    ) -> tuple[Array, tuple[Aux, Metrics]]:
        """A task's loss as a function of its parameters and the encoder's output."""
        params, encoded = at
        return task.loss(params, aux, self._seen(batch, encoded), rng, progress)

    def _seen(self, batch: Batch, encoded: tuple[Array, ...]) -> Batch:
        """What a task sees: the encoder's output f32[B, F] of each view; the views themselves are `images`."""
        return batch | {"views": encoded, "images": batch["views"]}


@jax.custom_vjp
def with_gradient(value: Array, gradient: PyTree, at: PyTree) -> Array:
    """`value` f32[], whose gradient by `at` is known already: `gradient`."""
    return value


with_gradient.defvjp(
    lambda value, gradient, at: (value, gradient),
    lambda gradient, g: (None, None, jax.tree.map(lambda x: g * x, gradient)),
)
