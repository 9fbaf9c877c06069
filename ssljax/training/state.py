"""The training state of an experiment: its shapes, where it lies on the devices, and how it is made."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.sharding import state_sharding, target_platform
from ssljax.train import init_state
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
        with jax.set_mesh(self.mesh):
            return jax.eval_shape(self._init, self.batch)

    @functools.cached_property
    def shardings(self) -> TrainState:
        """Where the state lies."""
        return state_sharding(self.mesh, self.shapes)

    def initial(self) -> TrainState:
        """The state before the first step, made where it belongs."""
        with jax.set_mesh(self.mesh):
            return self._compiled_init()

    def _init(self, batch: Any) -> TrainState:
        e = self.experiment
        rng = jax.random.PRNGKey(e.seed)
        return init_state(rng, batch, augment=e.views, method=e.method, tx=self.tx)

    @functools.cached_property
    def _compiled_init(self) -> Callable[[], TrainState]:
        def init() -> TrainState:
            return self._init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.batch))

        # Random numbers for every parameter compile for many seconds on a CPU, and are drawn once: do not optimise.
        quick = {"xla_backend_optimization_level": 0} if target_platform() == "cpu" else None
        return jax.jit(init, out_shardings=self.shardings, compiler_options=quick)
