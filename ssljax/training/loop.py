"""The one impure place: data in, metrics out, checkpoints, evaluations, and the report at the end."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ssljax.cli.robustness import robustness
from ssljax.config import Experiment
from ssljax.data import Items
from ssljax.data.atomic_files import read_json
from ssljax.data.bad_inputs import BadInputs
from ssljax.data.pipeline import TrainBatches, batch_shapes
from ssljax.data.samplers.base import Batches
from ssljax.evaluation import Embeddings, Origin, Robustness
from ssljax.evaluation.embed import Embedder, Encoder
from ssljax.evaluation.robustness import Curve
from ssljax.models import without_files
from ssljax.sharding import any_process, check_batch_size, make_mesh, one_device, replicated, state_sharding
from ssljax.train import init_state, train_step
from ssljax.training.checkpoint import Checkpoints
from ssljax.training.export import evaluate, finish
from ssljax.training.logging import MetricsWriter, ProgressBar, console, counting
from ssljax.training.run_folder import Run
from ssljax.training.signals import StopRequest
from ssljax.types import Embed, PyTree, RunStopped, Sampler, TrainState, UserError

COLLAPSED = 0.05  # an embedding_std below this is said in words


@dataclasses.dataclass(frozen=True)
class Setting:
    """An experiment on devices: what the state is, how it is made, and where it lies."""

    experiment: Experiment
    mesh: Mesh
    photos: int
    """in the train split"""
    steps_per_epoch: int
    """whole batches in it"""
    batch: dict[str, jax.ShapeDtypeStruct]
    """shapes and types of a training batch"""
    batches: Batches | None
    """which photos make up which training batch, of this process; None without the train split"""
    load: Callable[[str], Items]
    """a split of the data, read once"""

    @classmethod
    def of(cls, experiment: Experiment) -> "Setting":
        """On all devices, with everything checked that can be before compilation; raises UserError."""
        mesh = make_mesh(experiment.shards)
        check_batch_size(mesh, experiment.batch_size)
        load = functools.cache(experiment.data.load)
        items = load("train")
        batches = _batches_of(experiment.sampler, experiment, items)
        check_evaluation((*experiment.evaluate, *experiment.monitor), experiment.gallery, load)
        batch = batch_shapes(items, batch_size=experiment.batch_size, size=experiment.photo_size, photos=batches.photos)
        if hasattr(experiment.method, "check"):
            with jax.set_mesh(mesh):
                views = jax.eval_shape(experiment.views, jax.random.PRNGKey(0), batch)["views"]
            experiment.method.check(items, batches, len(views))
        setting = cls(experiment, mesh, len(items), batches.batches_per_epoch, batch, batches, load)
        _ = setting.shapes  # the batch is checked against the data, and the method against the batch
        return setting

    @classmethod
    def of_run(cls, experiment: Experiment, run: Run) -> "Setting":
        """On one device, without the data that a run was trained on: enough to embed by its checkpoints."""
        experiment = dataclasses.replace(experiment, method=without_files(experiment.method))
        return cls._recorded(experiment, run, one_device())

    @classmethod
    def of_run_to_evaluate(cls, experiment: Experiment, run: Run) -> "Setting":
        """On all devices, without the train split, and checked: enough to do again what follows training."""
        mesh = make_mesh(experiment.shards)
        check_batch_size(mesh, experiment.batch_size)
        setting = cls._recorded(experiment, run, mesh)
        check_evaluation(experiment.evaluate, experiment.gallery, setting.load)
        return setting

    @classmethod
    def _recorded(cls, experiment: Experiment, run: Run, mesh: Mesh) -> "Setting":
        data = read_json(
            run.data, "the same `ssljax train` command writes it anew", "photos", "steps_per_epoch", "batch"
        )
        batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in data["batch"].items()}
        load = functools.cache(experiment.data.load)
        return cls(experiment, mesh, data["photos"], data["steps_per_epoch"], batch, None, load)

    @property
    def data(self) -> dict[str, Any]:
        """What `of_run` needs to know of the data, as JSON."""
        batch = {name: [x.shape, x.dtype.name] for name, x in self.batch.items()}
        return {"photos": self.photos, "steps_per_epoch": self.steps_per_epoch, "batch": batch}

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.experiment.epochs * self.steps_per_epoch

    @property
    def monitor_steps(self) -> int:
        """Steps between evaluations during training."""
        return self.experiment.monitor_every * self.steps_per_epoch

    @property
    def refresh_steps(self) -> int | None:
        """Steps between the sampler's looks at the embeddings; None if it does not look at them."""
        every = getattr(self.experiment.sampler, "refresh_every", None)
        return every and every * self.steps_per_epoch

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

    def initial_state(self) -> TrainState:
        """The state before the first step, made where it belongs."""
        with jax.set_mesh(self.mesh):
            return self._compiled_init()

    def step(self) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
        """The compiled training step; it takes its state's memory."""
        step = functools.partial(
            train_step,
            augment=self.experiment.views,
            method=self.experiment.method,
            tx=self.tx,
            total_steps=self.total_steps,
            precision=self.experiment.precision,
        )
        return jax.jit(step, donate_argnums=0, out_shardings=(self.shardings, replicated(self.mesh)))

    def _init(self, batch: Any) -> TrainState:
        e = self.experiment
        rng = jax.random.PRNGKey(e.seed)
        return init_state(rng, batch, augment=e.views, method=e.method, tx=self.tx)

    @functools.cached_property
    def _compiled_init(self) -> Callable[[], TrainState]:
        def init() -> TrainState:
            return self._init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.batch))

        # Random numbers for every parameter compile for many seconds on a CPU, and are drawn once: do not optimise.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        return jax.jit(init, out_shardings=self.shardings, compiler_options=quick)


def _batches_of(sampler: Sampler, experiment: Experiment, items: Items) -> Batches:
    """This process's batches of a split."""
    shard = jax.process_index(), jax.process_count()
    return sampler.over(items, batch_size=experiment.batch_size, seed=experiment.seed, shard=shard)


def check_evaluation(evaluators: Sequence[Any], gallery: Sequence[str], load: Callable[[str], Items]) -> None:
    """Raises UserError if what follows training would fail: a split or a column that is not there, and the like."""

    @functools.cache
    def unseen(split: str) -> Embeddings:
        return Embeddings.unseen(load(split))

    for evaluator in evaluators:
        evaluator.check(unseen)
    for split in gallery:
        unseen(split)


def train(setting: Setting, run: Run, *, command: str) -> dict[str, Any] | None:
    """Trains from the newest checkpoint, or from the start, to the end; gives the results, or None if interrupted.

    `command` is what continues an interrupted run. Raises RunStopped if the loss is no longer finite, and UserError
    if too many photos are bad, or another process trains in the run folder.
    """
    with run.claim(), Checkpoints(run.checkpoints) as checkpoints:
        if checkpoints.latest is None:
            state = setting.initial_state()
        else:
            state = checkpoints.restore(setting.shapes, setting.shardings)
        embedder = _embedder(setting, run.bad_inputs())
        size, device = setting.experiment.batch_size, f"{setting.mesh.size} x {jax.devices()[0].device_kind}"
        console.print(f"{setting.photos:,} photos, {setting.total_steps:,} steps of {size} on {device}")
        state, seconds, stopped = _fit(setting, run, state, checkpoints, embedder)
        if stopped:
            console.print(f"Stopped at step {int(state.step)} of {setting.total_steps}. Continue with:\n  {command}")
            return None
        return _finish(setting, run, state, embedder, seconds)


def evaluate_run(setting: Setting, run: Run) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run and writes everything that follows training anew."""
    with Checkpoints(run.checkpoints) as checkpoints:
        state = _last(setting, run, checkpoints)
        return _finish(setting, run, state, _embedder(setting, run.bad_inputs()), checkpoints.position["seconds"])


def measure_robustness(
    setting: Setting, run: Run, suite: Robustness, *, network: str, data: str, command: str
) -> tuple[dict[str, Any], list[Curve]]:
    """Measures the newest checkpoint of a run, and writes the page about it; all as `robustness` has it.

    With `Setting.of_run` it happens on one device: how a batch is split over several decides the last digits.
    """
    with Checkpoints(run.checkpoints) as checkpoints:
        state = _last(setting, run, checkpoints)
    embedder = _embedder(setting, run.bad_inputs())
    _check_network(embedder, run, network)
    ways = {name: functools.partial(embedder.batch, state, network=name) for name in embedder.networks}
    bad = functools.partial(_bad_inputs, setting.experiment, run.bad_inputs(data))
    return robustness(
        run, setting.experiment, setting.load, bad, ways, suite, network=network, data=data, command=command
    )


def evaluate_on(setting: Setting, run: Run, *, data: str) -> dict[str, dict[str, float]]:
    """The table of the newest checkpoint of a run on the data and by the evaluators of `setting`, and of raw pixels.

    `data` names that data, for the list of photos that cannot be read.
    """
    check_evaluation(setting.experiment.evaluate, (), setting.load)
    with Checkpoints(run.checkpoints) as checkpoints:
        state = _last(setting, run, checkpoints)
    embedder = _embedder(setting, run.bad_inputs(data))
    return evaluate(setting.experiment, {**_rows(embedder, state), "raw pixels": embedder.raw_pixels()})


def embed(setting: Setting, run: Run, splits: Sequence[str], *, network: str, bad_inputs: Path) -> Embeddings:
    """Splits of the data of `setting`, one after the other, embedded by a network of a run's newest checkpoint.

    Photos that cannot be read are left out, and listed in the file `bad_inputs`.
    """
    with Checkpoints(run.checkpoints) as checkpoints:
        state = _last(setting, run, checkpoints)
    embedder = _embedder(setting, bad_inputs)
    _check_network(embedder, run, network)
    by = embedder.by(state, network)
    embeddings = Embeddings.joined([by(split) for split in splits])
    return dataclasses.replace(embeddings, origin=_origin(setting, run, state, network))


def encoder(setting: Setting, run: Run, network: str = "student") -> Encoder:
    """A network of a run's newest checkpoint, to embed photos by; the devices of `setting` must divide B."""
    with Checkpoints(run.checkpoints) as checkpoints:
        state = _newest(setting, run, checkpoints)
    embedder = _embedder(setting, run.bad_inputs())
    _check_network(embedder, run, network)

    def embed_photos(image: np.ndarray, aspect: np.ndarray) -> np.ndarray:
        return embedder.batch(state, {"image": image[:, None], "aspect": aspect[:, None]}, network)

    return Encoder(embed_photos, setting.experiment.photo_size, _origin(setting, run, state, network))


def _check_network(embedder: Embedder, run: Run, network: str) -> None:
    if network not in embedder.networks:
        raise UserError(f"network={network}: the method of {run.path} has no {network} to embed with, only a student")


def _origin(setting: Setting, run: Run, state: TrainState, network: str = "student") -> Origin:
    """The student is the parameters; a teacher is in the rest of the state, wherever the method has it."""
    whole, weights = jax.jit(lambda x: x, out_shardings=replicated(setting.mesh)), hashlib.sha256()
    for leaf in jax.tree.leaves(state.params if network == "student" else state.aux):
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):  # else it is put together on the host
            with jax.set_mesh(setting.mesh):
                leaf = whole(leaf)
        weights.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return Origin(str(run.path.absolute()), weights.hexdigest(), network)


def _newest(setting: Setting, run: Run, checkpoints: Checkpoints) -> TrainState:
    if checkpoints.latest is None:
        raise UserError(f"{run.path} has no checkpoint yet: train it first")
    return checkpoints.restore(setting.shapes, setting.shardings)


def _last(setting: Setting, run: Run, checkpoints: Checkpoints) -> TrainState:
    """The newest checkpoint, which must be of a complete run."""
    state = _newest(setting, run, checkpoints)
    if int(state.step) < setting.total_steps:
        remedy = f"delete {run.results} and train it again" if run.results.exists() else "train it to the end first"
        raise UserError(f"{run.path} is at step {int(state.step)} of {setting.total_steps}: {remedy}")
    return state


def _embedder(setting: Setting, bad_inputs: Path) -> Embedder:
    e = setting.experiment
    return Embedder(e, setting.mesh, setting.load, functools.partial(_bad_inputs, e, bad_inputs))


def _bad_inputs(experiment: Experiment, path: Path, items: Items) -> BadInputs:
    return BadInputs(path, total=len(items), limit=experiment.max_bad_share)


def _finish(setting: Setting, run: Run, state: TrainState, embedder: Embedder, seconds: float) -> dict[str, Any]:
    """`seconds` is over all processes that the training took, compilation included."""
    photos = setting.total_steps * setting.experiment.batch_size
    facts = {"steps": setting.total_steps, "seconds": seconds, "images_per_second": photos / seconds}
    rows = _rows(embedder, state) | {"untrained": embedder.by(setting.initial_state())}
    rows["raw pixels"] = embedder.raw_pixels()
    origin = _origin(setting, run, state)
    return finish(run, setting.experiment, setting.load, rows, _weights(setting, state), origin, facts)


def _rows(embedder: Embedder, state: TrainState) -> dict[str, Embed]:
    """What a table says of a state, by the names of its rows."""
    return {"trained" if n == "student" else n: embedder.by(state, n) for n in embedder.networks}


def _weights(setting: Setting, state: TrainState) -> dict[str, PyTree]:
    """What the method has to save for others, on the host; nothing if it defines no `weights`."""
    method = setting.experiment.method
    if not hasattr(method, "weights"):
        return {}
    with jax.set_mesh(setting.mesh):
        whole = jax.jit(method.weights, out_shardings=replicated(setting.mesh))(state.params, state.aux)
    return jax.device_get(whole)


def _fit(
    setting: Setting, run: Run, state: TrainState, checkpoints: Checkpoints, embedder: Embedder
) -> tuple[TrainState, float, bool]:
    """The steps that are left, as far as the user lets them run; the seconds of all steps so far; whether to stop."""
    e, start, began = setting.experiment, int(state.step), time.monotonic()
    position = checkpoints.position if start else {"seconds": 0.0}
    if start == setting.total_steps:
        return state, position["seconds"], False
    step_function, previous = setting.step(), None
    stop = StopRequest(lambda: console.print("Stopping after this step; saving."))
    rates = np.asarray(jax.vmap(e.optimizer.learning_rate(setting.total_steps))(np.arange(setting.total_steps)))
    with (
        _train_batches(setting, run, _batches(setting, run, state, checkpoints, embedder)) as batches,
        MetricsWriter(run.metrics, run.tensorboard, resumed_at=start) as writer,
        ProgressBar(setting.total_steps, start, e.batch_size) as bar,
        jax.set_mesh(setting.mesh),
        contextlib.ExitStack() as after_first_step,
    ):
        if start:
            batches.seek(position["data"])
        for step in range(start + 1, setting.total_steps + 1):
            batch = next(batches)
            if step == start + 1:
                compiling = time.monotonic()
                console.print("Compiling" + ", which can take minutes on a CPU" * (jax.default_backend() == "cpu"))
            with jax.transfer_guard("disallow"):
                state, metrics = step_function(state, batch)
            if step == start + 1:
                console.print(f"Compiled in {time.monotonic() - compiling:.0f} s.")
                after_first_step.enter_context(stop)  # before it there is nothing to save
            if previous is not None:  # read one step late, so that the device always has the next one to do
                _log(setting, *previous, writer, bar, rates)
            previous = step, metrics
            last = step == setting.total_steps or _agreed(stop, step, e.log_every)
            save, monitor = last or step % e.checkpoint_every == 0, step % setting.monitor_steps == 0
            refresh = not last and setting.refresh_steps is not None and step % setting.refresh_steps == 0
            if save or monitor or refresh:  # what follows must not see a state that is not finite
                figures = _log(setting, *previous, writer, bar, rates)
                previous = None
                if figures.get("embedding_std", 1.0) < COLLAPSED:
                    console.print(
                        f"Step {step}: the embeddings have collapsed: embedding_std is {figures['embedding_std']:.3f}, "
                        "where 1 is spread evenly and 0 all the same"
                    )
            if monitor:
                for network in embedder.networks:
                    embed, prefix = embedder.by(state, network), "" if network == "student" else f"{network}/"
                    for evaluator in e.monitor:
                        writer.write(step, {prefix + name: value for name, value in evaluator(embed).items()})
            if save:
                seconds = position["seconds"] + time.monotonic() - began
                checkpoints.save(step, state, {"data": batches.position, "seconds": seconds})
            if last:
                break
            if refresh:
                batches.go_on_with(_batches(setting, run, state, checkpoints, embedder))
        checkpoints.wait()
    return state, seconds, any_process(stop.asked)


def _agreed(stop: StopRequest, step: int, every: int) -> bool:
    """Whether all processes stop after this step; of several, which ask each other every `every` steps."""
    if jax.process_count() == 1:
        return stop.asked
    return step % every == 0 and any_process(stop.asked)


def _log(
    setting: Setting, step: int, metrics: Any, writer: MetricsWriter, bar: ProgressBar, rates: np.ndarray
) -> dict[str, float]:
    """Waits for a step's figures, shows and writes them, and gives them; raises RunStopped if they are not finite."""
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
    return figures


def _batches(setting: Setting, run: Run, state: TrainState, checkpoints: Checkpoints, embedder: Embedder) -> Batches:
    """Those that follow `state`; if it is time, the sampler looks at the embeddings anew first."""
    sampler, every, step = setting.experiment.sampler, setting.refresh_steps, int(state.step)
    if every is None:
        return setting.batches
    items = setting.load("train")
    if step % every == 0:
        console.print(f"Step {step}: embedding the train split, by which the sampler makes harder batches")
        embedded = embedder.by(state)("train")
        embeddings = np.zeros((len(items), embedded.vectors.shape[1]), np.float32)
        read = set(embedded.ids)
        embeddings[[name in read for name in items.ids]] = embedded.vectors  # in the items' order
        needed = {run.refreshed(saved - saved % every) for saved in checkpoints.steps}

        def refresh() -> None:
            for file in run.refreshed(step).parent.glob("*"):
                if file not in needed:
                    file.unlink()
            sampler.refresh(items, embeddings, step // every, run.refreshed(step))

        run.by_first(refresh)
    path = run.refreshed(step - step % every)

    def read() -> Batches:
        try:
            return _batches_of(sampler.reading(path), setting.experiment, items)
        except UserError as error:
            raise UserError(f"{path} does not serve ({error}): put it back, or --restart to train anew") from None

    return run.by_each(read)


def _train_batches(setting: Setting, run: Run, batches: Batches) -> TrainBatches:
    e = setting.experiment
    items = setting.load("train")
    with counting("decoding", len(items)) as progress:
        return TrainBatches(
            items,
            batches,
            size=e.photo_size,
            cache=e.cache,
            threads=e.threads,
            workers=e.workers,
            bad=_bad_inputs(e, run.bad_inputs(), items),
            mesh=setting.mesh,
            progress=progress,
        )
