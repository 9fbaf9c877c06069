"""The one impure place: data in, metrics out, checkpoints, evaluations, and the report at the end."""

import dataclasses
import functools
import json
import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ssljax.checkpoint import Checkpoints
from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.pipeline import BadInputs, TrainBatches, batch_shapes
from ssljax.embed import Embedder
from ssljax.finish import finish
from ssljax.logging import MetricsWriter, ProgressBar, console
from ssljax.retrieval import Embeddings
from ssljax.run import Run
from ssljax.sharding import check_batch_size, make_mesh, replicated, state_sharding
from ssljax.train import init_state, train_step
from ssljax.types import PyTree, RunStopped, TrainState, UserError


@dataclasses.dataclass(frozen=True)
class Setting:
    """An experiment on this machine's devices: what the state is, how it is made, and where it lies."""

    experiment: Experiment
    mesh: Mesh
    items: Items
    shapes: PyTree
    shardings: PyTree

    @classmethod
    def of(cls, experiment: Experiment) -> "Setting":
        """Checks everything that can be checked before compilation; raises UserError."""
        if jax.process_count() > 1:
            raise UserError(f"there are {jax.process_count()} processes: only one can train as yet")
        mesh = make_mesh(experiment.shards)
        check_batch_size(mesh, experiment.batch_size)
        items = experiment.data.load("train")
        if experiment.batch_size > len(items):
            raise UserError(f"batch_size={experiment.batch_size} is larger than the train split's {len(items)} photos")
        check_evaluation(experiment)
        setting = cls(experiment, mesh, items, None, None)
        with jax.set_mesh(mesh):
            shapes = jax.eval_shape(setting._init, setting._batch_shapes())
        return dataclasses.replace(setting, shapes=shapes, shardings=state_sharding(mesh, shapes))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the train split."""
        return len(self.items) // self.experiment.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.experiment.epochs * self.steps_per_epoch

    @property
    def monitor_steps(self) -> int:
        """Steps between evaluations during training."""
        return self.experiment.monitor_every * self.steps_per_epoch

    def initial_state(self) -> TrainState:
        """The state before the first step, made where it belongs."""

        def init() -> TrainState:
            return self._init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._batch_shapes()))

        # Random numbers for every parameter compile for many seconds on a CPU, and are drawn once: do not optimise.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        with jax.set_mesh(self.mesh):
            return jax.jit(init, out_shardings=self.shardings, compiler_options=quick)()

    def step(self) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
        """The compiled training step; it takes its state's memory."""
        step = functools.partial(
            train_step,
            augment=self.experiment.views,
            method=self.experiment.method,
            tx=self.experiment.optimizer.build(self.total_steps),
            total_steps=self.total_steps,
        )
        return jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, replicated(self.mesh)))

    def _init(self, batch: Any) -> TrainState:
        e = self.experiment
        rng = jax.random.PRNGKey(e.seed)
        return init_state(rng, batch, augment=e.views, method=e.method, tx=e.optimizer.build(self.total_steps))

    def _batch_shapes(self) -> Any:
        return batch_shapes(self.items, batch_size=self.experiment.batch_size, size=self.experiment.photo_size)


def check_evaluation(experiment: Experiment) -> None:
    """Raises UserError if what follows training would fail: a split or a column that is not there, and the like."""

    @functools.cache
    def unseen(split: str) -> Embeddings:
        items = experiment.data.load(split)
        return Embeddings.of(items, np.zeros((len(items), 1), np.float32))

    for evaluator in (*experiment.evaluate, *experiment.monitor):
        evaluator.check(unseen)
    for split in experiment.gallery:
        unseen(split)


def train(setting: Setting, run: Run, *, command: str) -> dict[str, Any] | None:
    """Trains from the newest checkpoint, or from the start, to the end; gives the results, or None if interrupted.

    `command` is what continues an interrupted run. Raises RunStopped if the loss is no longer finite, and UserError
    if too many photos are bad.
    """
    with jax.set_mesh(setting.mesh), Checkpoints(run.checkpoints) as checkpoints:
        if checkpoints.latest is None:
            state = setting.initial_state()
        else:
            state = checkpoints.restore(setting.shapes, setting.shardings)
        embedder = Embedder(setting.experiment, setting.mesh, _bad_inputs(setting.experiment, run))
        size, device = setting.experiment.batch_size, f"{setting.mesh.size} x {jax.devices()[0].device_kind}"
        console.print(f"{len(setting.items):,} photos, {setting.total_steps:,} steps of {size} on {device}; compiling")
        state, seconds = _fit(setting, run, state, checkpoints, embedder)
        if int(state.step) < setting.total_steps:
            console.print(f"Stopped at step {int(state.step)} of {setting.total_steps}. Continue with:\n  {command}")
            return None
        facts = _facts(setting, seconds)
        states = {"trained": state, "untrained": setting.initial_state()}
        return finish(run, setting.experiment, embedder, states, facts)


def evaluate_run(setting: Setting, run: Run) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run and writes everything that follows training anew."""
    with jax.set_mesh(setting.mesh), Checkpoints(run.checkpoints) as checkpoints:
        if checkpoints.latest is None:
            raise UserError(f"{run.path} has no checkpoint yet: train it first")
        state = checkpoints.restore(setting.shapes, setting.shardings)
        if int(state.step) < setting.total_steps:
            remedy = f"delete {run.results} and train it again" if run.results.exists() else "train it to the end first"
            raise UserError(f"{run.path} is at step {int(state.step)} of {setting.total_steps}: {remedy}")
        embedder = Embedder(setting.experiment, setting.mesh, _bad_inputs(setting.experiment, run))
        states = {"trained": state, "untrained": setting.initial_state()}
        facts = _facts(setting, checkpoints.position()["seconds"])
        return finish(run, setting.experiment, embedder, states, facts)


def _facts(setting: Setting, seconds: float) -> dict[str, Any]:
    """What the results say of the training; `seconds` is over all processes that it took, compilation included."""
    photos = setting.total_steps * setting.experiment.batch_size
    return {"steps": setting.total_steps, "seconds": seconds, "images_per_second": photos / seconds}


def embed_photo(setting: Setting, run: Run, image: np.ndarray, aspect: float) -> np.ndarray:
    """f32[D], a decoded photo u8[S, S, 3] embedded by the newest checkpoint of a run."""
    with Checkpoints(run.checkpoints) as checkpoints:
        if checkpoints.latest is None:
            raise UserError(f"{run.path} has no checkpoint yet: train it first")
        state = checkpoints.restore(setting.shapes, setting.shardings)
    n = setting.mesh.size  # the smallest batch that is split evenly
    batch = {"image": np.tile(image, (n, 1, 1, 1, 1)), "aspect": np.full((n, 1), aspect, np.float32)}
    embedder = Embedder(setting.experiment, setting.mesh, _bad_inputs(setting.experiment, run))
    return embedder.batch(state, batch)[0]


def _fit(
    setting: Setting, run: Run, state: TrainState, checkpoints: Checkpoints, embedder: Embedder
) -> tuple[TrainState, float]:
    """The steps that are left, as far as the user lets them run; and the seconds of all steps so far."""
    e, start, began = setting.experiment, int(state.step), time.monotonic()
    position = checkpoints.position() if start else {"seconds": 0.0}
    if start == setting.total_steps:
        return state, position["seconds"]
    step_function, previous = setting.step(), None
    rates = np.asarray(jax.vmap(e.optimizer.learning_rate(setting.total_steps))(np.arange(setting.total_steps)))
    with (
        _train_batches(setting, run) as batches,
        MetricsWriter(run.metrics, run.path / "tensorboard", resumed_at=start) as writer,
        ProgressBar(setting.total_steps, start, e.batch_size) as bar,
        Interrupt() as interrupt,
    ):
        if start:
            batches.set_state(json.dumps(position["data"]).encode())
        for step in range(start + 1, setting.total_steps + 1):
            batch = next(batches)
            with jax.transfer_guard("disallow"):
                state, metrics = step_function(state, batch)
            if previous is not None:  # read one step late, so that the device always has the next one to do
                _log(setting, *previous, writer, bar, rates)
            previous = step, metrics
            last = step == setting.total_steps or interrupt.asked
            save, monitor = last or step % e.checkpoint_every == 0, step % setting.monitor_steps == 0
            if save or monitor:  # what follows must not see a state that is not finite
                _log(setting, *previous, writer, bar, rates)
                previous = None
            if monitor:
                embed = embedder.by(state)
                for evaluator in e.monitor:
                    writer.write(step, evaluator(embed))
            if save:
                seconds = position["seconds"] + time.monotonic() - began
                checkpoints.save(step, state, {"data": json.loads(batches.get_state()), "seconds": seconds})
            if last:
                break
        checkpoints.wait()
    return state, seconds


def _log(setting: Setting, step: int, metrics: Any, writer: MetricsWriter, bar: ProgressBar, rates: np.ndarray) -> None:
    """Waits for a step's figures, shows and writes them; raises RunStopped if they are not finite."""
    figures = {name: float(value) for name, value in jax.device_get(metrics).items()}
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(figures[name]):
            raise RunStopped(
                f"{name} is {figures[name]} at step {step} (learning rate {rates[step - 1]:.3g}): stopped, and the "
                "last checkpoint, if any, is from before; try a lower optimizer.lr or a longer optimizer.warmup, with "
                "--restart or another --name"
            )
    bar.update(step, {"loss": figures["loss"], "std": figures.get("embedding_std", math.nan)})
    if step % setting.experiment.log_every == 0 or step == setting.total_steps:
        rate = {"epoch": step / setting.steps_per_epoch, "learning_rate": float(rates[step - 1])}
        writer.write(step, {**figures, **rate, "images_per_second": bar.images_per_second})


def _train_batches(setting: Setting, run: Run) -> TrainBatches:
    e = setting.experiment
    return TrainBatches(
        setting.items,
        batch_size=e.batch_size,
        size=e.photo_size,
        seed=e.seed,
        cache=e.cache,
        threads=e.threads,
        workers=e.workers,
        bad=_bad_inputs(e, run)(setting.items),
        mesh=setting.mesh,
    )


def _bad_inputs(experiment: Experiment, run: Run) -> Callable[[Items], BadInputs]:
    return lambda items: BadInputs(run.bad_inputs, total=len(items), limit=experiment.max_bad_share)


class Interrupt:
    """Ctrl-C and SIGTERM ask for a stop after the step under way; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        else:
            self._before = {}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        console.print("Stopping after this step; saving.")
