"""What a training runs on its devices, compiled for a target from shapes alone: initialisation, step and evaluation."""

import contextlib
import dataclasses
import functools
import logging
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ssljax.config import Experiment
from ssljax.data.pipeline import batch_shapes
from ssljax.evaluation import SavedEmbeddings
from ssljax.evaluation.embed import embedding_functions
from ssljax.models import without_files
from ssljax.plan.arithmetic import arithmetic
from ssljax.sharding import batch_sharding, check_batch_size, entering, make_mesh, replicated
from ssljax.training.state import StateSpec
from ssljax.types import Method, PyTree, UserError

VECTOR = 2048  # numbers of a photo's saved vector, where those are not there
UNKNOWN_STEPS = 100  # an epoch, where the data is not there; what is compiled is the same for any number
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One program, compiled or refused."""

    seconds: float
    """that tracing and compiling took"""
    cpu_seconds: float
    """that they took of all cores together, which says more on a busy machine"""
    needed: float
    """bytes of a device while it runs, with its arguments; an estimate where it does not fit"""
    arguments: float = 0.0
    """bytes of them, as the compiler lays them out"""
    text: str = ""
    """the compiled program; empty if the compiler refused it for its size"""


@dataclasses.dataclass(frozen=True)
class Work:
    """An experiment on the devices of a target."""

    spec: StateSpec
    photos: int | None
    """of the train split, or listings or triplets; None if the data is not there"""
    steps_per_epoch: int | None
    """None likewise"""
    all_photos: int | None
    """of the train split, those of all listings together; None likewise"""

    @classmethod
    def of(cls, experiment: Experiment, devices: Any, photos: int | None) -> "Work":
        """`photos` (or listings, or triplets) of the train split are assumed; None reads the data, if it is there; 0 if
        unknown.

        Raises UserError if the experiment does not suit the devices.
        """
        mesh = make_mesh(experiment.shards, devices)
        check_batch_size(mesh, experiment.batch_size, experiment.accumulate)
        batch, photos, steps, all_photos = _batch(experiment, photos)
        experiment = dataclasses.replace(experiment, method=without_files(experiment.method))
        spec = StateSpec(experiment, mesh, batch, experiment.epochs * (steps or UNKNOWN_STEPS))
        return cls(spec, photos, steps, all_photos)

    @property
    def mesh(self) -> Mesh:
        """Of the target's devices."""
        return self.spec.mesh

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what a dispatch gets, with where it lies: a training batch, or several in one."""
        n, batch = self.spec.experiment.steps_per_dispatch, self.spec.batch
        if n > 1:
            batch = {k: jax.ShapeDtypeStruct((x.shape[0], n, *x.shape[1:]), x.dtype) for k, x in batch.items()}
        return self._placed(batch)

    def step(self) -> tuple[Compiled, dict[str, float]]:
        """The program of a dispatch, and the FLOPs of a step's arithmetic by part.

        A dispatch of several steps loops over them as often as it is told, so that its program has one, too.
        """
        began, single = _now(), self.spec.experiment.steps_per_dispatch == 1
        count = () if single else (jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(self.mesh)),)
        arguments = (self.spec.placed, self.batch, *count)
        with entering(self.mesh):
            traced = (self.spec.step() if single else self.spec.steps()).trace(*arguments)
            return compiled_or_refused(traced.lower(), began, arguments), arithmetic(traced.jaxpr.jaxpr)

    def views(self) -> Any:
        """Shapes and types of what the views make of a batch."""
        with entering(self.mesh):
            return jax.eval_shape(self.spec.experiment.normalised_views, jax.random.PRNGKey(0), self.spec.batch)[
                "views"
            ]

    def initialisation(self) -> Compiled:
        """The program that makes the first state."""
        began = _now()
        with entering(self.mesh):
            return compiled_or_refused(self.spec.initializer.lower(), began, ())

    def evaluation(self) -> Compiled:
        """The program that embeds a batch with the student's network."""
        began, state = _now(), self.spec.placed
        photos = {n: self.spec.batch[n] for n in ("image", "aspect", "title", "vectors") if n in self.spec.batch}
        one = {name: jax.ShapeDtypeStruct((x.shape[0], 1, *x.shape[2:]), x.dtype) for name, x in photos.items()}
        arguments = state.params, state.aux, self._placed(one)
        embed = embedding_functions(self.spec.experiment, self.mesh)["student"]
        with entering(self.mesh):
            return compiled_or_refused(embed.lower(*arguments), began, arguments)

    def _placed(self, batch: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        sharding = batch_sharding(self.mesh)
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for name, x in batch.items()}


def bytes_on_device(placed: PyTree) -> float:
    """Bytes of a device that arrays take, by their shapes and shardings."""
    return float(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(placed)))


def compiled_or_refused(lowered: Any, began: tuple[float, float], arguments: PyTree) -> Compiled:
    """A lowered program, compiled, or refused because a device has too little memory; any other refusal is raised.

    That a kernel needs more than a chip's vector memory is one: no smaller batch would help.
    """
    try:
        with _uncached():
            compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or re.search("vmem", str(error), re.I):
            raise
        return Compiled(*_since(began), needed_bytes(str(error), bytes_on_device(arguments)))
    took, memory = _since(began), compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    needed = held + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return Compiled(*took, needed, memory.argument_size_in_bytes, compiled.as_text())


def _now() -> tuple[float, float]:
    """Seconds by the clock, and of all cores."""
    return time.monotonic(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    clock, cores = _now()
    return clock - began[0], cores - began[1]


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Within it JAX's compilation cache keeps nothing: it cannot read back what is for devices that are not here."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def needed_bytes(refusal: str, arguments: float) -> float:
    """The bytes that a program needs, of the compiler's refusal, which may leave out those of its arguments."""
    if found := re.search(r"Used ([\d.]+)([KMGT]?) of", refusal):
        return float(found[1]) * UNITS[found[2]]
    found = re.search(r"total memory required for HLO temporaries \(([\d.]+)([KMGT]?)\)", refusal)
    return arguments + (float(found[1]) * UNITS[found[2]] if found else 0.0)


def _batch(
    experiment: Experiment, photos: int | None
) -> tuple[dict[str, jax.ShapeDtypeStruct], int | None, int | None, int | None]:
    """Shapes and types of a training batch; photos (or listings), steps of an epoch and all photos, if known."""
    b, s = experiment.batch_size, experiment.photo_size
    n, per_class = (getattr(experiment.sampler, name, 1) for name in ("photos", "per_class"))
    if b % per_class:  # the sampler says so as well, but only of data
        raise UserError(f"batch_size={b} is not a multiple of sampler.per_class={per_class}")
    if photos is None:
        try:
            items = experiment.data.load("train")
        except UserError as error:
            logging.getLogger(__name__).warning("%s. Hours are left out: give --photos N to have them.", error)
        else:
            batches = experiment.sampler.over(items, batch_size=b, seed=experiment.seed)
            if experiment.epochs:
                batches.check()
            shapes = batch_shapes(items, batch_size=b, size=s, photos=batches.photos) | _titles(experiment, n)
            return shapes, len(items), batches.batches_per_epoch, len(items)
    shapes = {
        "image": jax.ShapeDtypeStruct((b, n, s, s, 3), jnp.uint8),
        "aspect": jax.ShapeDtypeStruct((b, n), jnp.float32),
        **{name: jax.ShapeDtypeStruct((b,), jnp.int32) for name in ("index", "label", "listing")},
        "attributes": jax.ShapeDtypeStruct((b, _attributes(experiment.method)), jnp.int32),
    }
    shapes |= _titles(experiment, n)
    if isinstance(experiment.data, SavedEmbeddings):
        shapes["vectors"] = jax.ShapeDtypeStruct((b, n, VECTOR), jnp.float32)
    return (shapes, photos, max(1, photos // b), photos * n) if photos else (shapes, None, None, None)


def _titles(experiment: Experiment, photos: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The token ids of titles in a batch, if it has any: their shape does not depend on the tokenizer."""
    if experiment.titles is None:
        return {}
    shape = experiment.batch_size, photos, experiment.titles.length
    return {"title": jax.ShapeDtypeStruct(shape, jnp.int32)}


def _attributes(method: Method) -> int:
    """How many attributes the data must have for a method: as many as it, or a task of it, has numbers of values."""
    methods = (method, *getattr(method, "tasks", ()))
    return max((len(getattr(m, "values", ())) for m in methods), default=0) or 1
