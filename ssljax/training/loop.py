"""The training loop: step, log, monitor, save, stop. It ends with what a finished run leaves."""

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.evaluation.embed import Embedder
from ssljax.evaluation.restore import Restored
from ssljax.sharding import any_process
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.export import Export, finish
from ssljax.training.logging import MetricsWriter, ProgressBar, compiling, console
from ssljax.training.refresh import batches_from
from ssljax.training.run_folder import Run
from ssljax.training.setup import Setup
from ssljax.training.signals import StopRequest
from ssljax.types import Progress, RunStopped, TrainState

COLLAPSED = 0.05  # an embedding_std below this is said in words


def train(
    setup: Setup, run: Run, *, command: str, exports: Sequence[Export] = (), signals: bool = True
) -> dict[str, Any] | None:
    """Trains from the newest checkpoint, or from the start, to the end; returns the results, or None if interrupted.

    `command` continues an interrupted run; `exports` write more of a finished one. Raises RunStopped if the loss is no
    longer finite, and UserError if too many photos are bad, or another process trains in the run folder.
    """
    with run.claim(), Checkpoints(run.checkpoints) as checkpoints:
        if checkpoints.latest is None:
            state = setup.spec.initial()
        else:
            state = checkpoints.restore(setup.spec.shapes, setup.spec.shardings)
        embedder = setup.embedder(run)
        photos, size = len(setup.load("train")), setup.experiment.batch_size
        device = f"{setup.mesh.size} x {jax.devices()[0].device_kind}"
        console.print(f"{photos:,} photos, {setup.total_steps:,} steps of {size} on {device}")
        state, seconds, stopped = _fit(setup, run, state, checkpoints, embedder, signals)
        if stopped:
            console.print(f"Stopped at step {int(state.step)} of {setup.total_steps}. Continue with:\n  {command}")
            return None
        return finish(Restored(run, setup.spec, state, embedder, setup.load, seconds), exports)


def _fit(
    setup: Setup, run: Run, state: TrainState, checkpoints: Checkpoints, embedder: Embedder, signals: bool
) -> tuple[TrainState, float, bool]:
    """Takes the steps that are left; returns the state, the seconds of all steps so far, and whether it was stopped."""
    e, start, began = setup.experiment, int(state.step), time.monotonic()
    position: dict[str, Any] = checkpoints.position if start else {"seconds": 0.0}
    if start == setup.total_steps:
        if not start:  # nothing is to be trained, and what follows reads a checkpoint
            checkpoints.save(0, state, position)
            checkpoints.wait()
        return state, position["seconds"], False
    single = e.steps_per_dispatch == 1
    advance, previous = setup.spec.step() if single else setup.spec.steps(), None
    stop = StopRequest(lambda: console.print("Stopping after this step; saving."))
    with (
        setup.train_batches(run, batches_from(setup, run, state, checkpoints, embedder)) as batches,
        MetricsWriter(run.metrics, run.tensorboard, resumed_at=start) as writer,
        ProgressBar(setup.total_steps, start, e.batch_size) as bar,
        jax.set_mesh(setup.mesh),
        contextlib.ExitStack() as after_first_step,
    ):
        log = _Log(setup, writer, bar)
        if start:
            batches.seek(position["data"])
        for step, count in setup.dispatches(start):
            batch = (next(batches),) if single else batches.take(count, e.steps_per_dispatch)
            with jax.transfer_guard("disallow"), compiling(step - count == start):
                state, metrics = advance(state, *batch)
            if step - count == start and signals:  # before the first step there is nothing to save
                after_first_step.enter_context(stop)
            if previous is not None:  # read one dispatch late, so that the device always has the next one to do
                log(*previous)
            previous = step, count, metrics
            last = step == setup.total_steps or _agreed(stop, step, count, e.log_every)
            save = last or step % e.checkpoint_every == 0
            monitor = step % (e.monitor_every * setup.steps_per_epoch) == 0
            refresh = not last and setup.refresh_steps is not None and step % setup.refresh_steps == 0
            if save or monitor or refresh:  # what follows must not see a state that is not finite
                _warn_of_collapse(step, log(*previous))
                previous = None
            if monitor:
                for network, embed in embedder.by_networks(state).items():
                    prefix = "" if network == "student" else f"{network}/"
                    for evaluator in e.monitor:
                        writer.write(step, {prefix + name: value for name, value in evaluator(embed).items()})
            if save:
                seconds = position["seconds"] + time.monotonic() - began
                checkpoints.save(step, state, {"data": batches.position, "seconds": seconds})
            if last:
                break
            if refresh:
                batches.go_on_with(batches_from(setup, run, state, checkpoints, embedder))
        checkpoints.wait()
    return state, seconds, any_process(stop.asked)


def _agreed(stop: StopRequest, step: int, count: int, every: int) -> bool:
    """Whether all processes stop after this dispatch; of several, which ask each other about every `every` steps."""
    if jax.process_count() == 1:
        return stop.asked
    return step // every > (step - count) // every and any_process(stop.asked)


class _Log:
    """Waits for the figures of a dispatch, shows and writes them, and returns those of its last step.

    Raises RunStopped if they are not finite.
    """

    def __init__(self, setup: Setup, writer: MetricsWriter, bar: ProgressBar):
        self._setup, self._writer, self._bar = setup, writer, bar
        progress = Progress(jnp.arange(setup.total_steps), setup.total_steps)
        self._rates = np.asarray(jax.vmap(setup.experiment.optimizer.learning_rate)(progress))

    def __call__(self, last: int, count: int, metrics: Any) -> dict[str, float]:
        metrics = {name: np.atleast_1d(values) for name, values in jax.device_get(metrics).items()}
        steps = [{name: float(values[i]) for name, values in metrics.items()} for i in range(count)]
        self._bar.update(last, {"loss": steps[-1]["loss"], "std": steps[-1].get("embedding_std", math.nan)})
        for step, figures in enumerate(steps, start=last - count + 1):
            rate, setup = float(self._rates[step - 1]), self._setup
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(figures[name]):
                    raise RunStopped(
                        f"{name} is {figures[name]} at step {step} (learning rate {rate:.3g}): stopped, and the last "
                        "checkpoint, if any, is from before; try a lower optimizer.lr or a longer optimizer.warmup, "
                        "with --restart or another --name"
                    )
            if step % setup.experiment.log_every == 0 or step == setup.total_steps:
                more = {"epoch": step / setup.steps_per_epoch, "learning_rate": rate}
                self._writer.write(step, {**figures, **more, "images_per_second": self._bar.images_per_second})
        return steps[-1]


def _warn_of_collapse(step: int, figures: dict[str, float]) -> None:
    if figures.get("embedding_std", 1.0) < COLLAPSED:
        console.print(
            f"Step {step}: the embeddings have collapsed: embedding_std is {figures['embedding_std']:.3f}, where 1 is "
            "spread evenly and 0 all the same"
        )
