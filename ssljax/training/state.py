"""The training state of an experiment: its shapes, where it lies on the devices, how it is made, and the step."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.sharding import entering, replicated, state_sharding, target_platform
from ssljax.train import init_state, train_step, train_steps
from ssljax.types import TrainState


@dataclasses.dataclass(frozen=True)
class StateSpec:
    """What the state of an experiment is, on a mesh."""

    experiment: Experiment
    mesh: Mesh
    batch: dict[str, jax.ShapeDtypeStruct]
    """shapes and types of a training batch"""
    total_steps: int
    """steps of the whole training"""

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer, for this training and what its method freezes."""
        return self.experiment.optimizer.build(self.total_steps, self.experiment.method)

    @functools.cached_property
    def shapes(self) -> TrainState:
        """Shapes and types of the state."""
        with entering(self.mesh):
            return jax.eval_shape(self._init, self.batch)

    @functools.cached_property
    def shardings(self) -> TrainState:
        """Where the state lies."""
        return state_sharding(self.mesh, self.shapes)

    def initial(self) -> TrainState:
        """The state before the first step, made where it belongs."""
        with entering(self.mesh):
            return self.initializer()

    @property
    def placed(self) -> TrainState:
        """The shapes with their shardings, for compiling ahead of time."""
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), self.shapes, self.shardings
        )

    def _init(self, batch: Any) -> TrainState:
        e = self.experiment
        rng = jax.random.PRNGKey(e.seed)
        return init_state(rng, batch, augment=e.normalised_views, method=e.method, tx=self.tx)

    @functools.cached_property
    def initializer(self) -> Any:
        """The jitted function without arguments that makes the state before the first step; call it within the mesh."""

        def init() -> TrainState:
            return self._init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.batch))

        # Random numbers for every parameter compile for many seconds on a CPU, and are drawn once: do not optimise.
        quick = {"xla_backend_optimization_level": 0} if target_platform() == "cpu" else None
        return jax.jit(init, out_shardings=self.shardings, compiler_options=quick)

    def step(self) -> Any:
        """The jitted training step: state and batch to state and metrics; it takes its state's memory."""
        return self._jitted(self._step)

    def steps(self) -> Any:
        """The jitted `train_steps`: state, batches and how many of them to state and metrics, in one dispatch."""
        return self._jitted(functools.partial(train_steps, self._step))

    @property
    def _step(self) -> Any:
        return functools.partial(
            train_step,
            augment=self.experiment.normalised_views,
            method=self.experiment.method,
            tx=self.tx,
            total_steps=self.total_steps,
            precision=self.experiment.precision,
            accumulate=self.experiment.accumulate,
        )

    def _jitted(self, step: Any) -> Any:
        return jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, replicated(self.mesh)))
