"""Where arrays live: the mesh, the parameters' rule, the batch, the queue. Only this module names devices, and the
platform that a step is compiled for.

The mesh has two axes: `data`, and `shard`, over which large parameters are split (FSDP). A batch is split over both.
"""

import contextlib
import ctypes
import dataclasses
import functools
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ssljax.queue import Queue
from ssljax.types import Array, PyTree, RunStopped, UserError

BATCH_AXES = ("data", "shard")
ANY = "any"  # the platform of what is exported
LOST_AFTER = 30  # seconds without a sign of life from a process
FAREWELL = 5.0  # seconds
SAID = 1024  # bytes
_leaving = threading.Event()
_kept: list[object] = []  # what C++ calls must not be collected
P = ParamSpec("P")
R = TypeVar("R")
FSDP_SMALLEST = 2**16  # parameters with fewer elements are copied to every device: splitting them saves nothing


def make_mesh(shards: int = 1, devices: Any = None) -> Mesh:
    """A mesh of all devices (or of those given) with `shards` of them holding the parts of one copy of the parameters.

    Raises UserError if the number of devices is not a multiple of `shards`.
    """
    devices = jax.devices() if devices is None else devices
    if shards < 1 or len(devices) % shards:
        raise UserError(f"shards={shards} does not divide the number of devices, {len(devices)}")
    shape = (len(devices) // shards, shards)
    return jax.make_mesh(shape, BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def entering(mesh: Mesh) -> contextlib.AbstractContextManager[Any]:
    """Within it, what is traced or run is for `mesh`, whose devices may be those of a machine that is not here.

    For such devices a step can be compiled, but nothing runs. Under `jax.set_mesh`, what is computed while tracing
    (such as a check of a schedule) would be placed on them and fail; under the abstract mesh it runs here.
    """
    here = mesh.devices.flat[0] in jax.devices()
    return jax.set_mesh(mesh) if here else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def for_any_platform() -> contextlib.AbstractContextManager[Any]:
    """Within it, what is traced takes the plain form of every operation: it is to run wherever it is loaded."""
    device = AbstractDevice(device_kind=ANY, num_cores=None, platform=ANY)
    mesh = AbstractMesh((1, 1), BATCH_AXES, (AxisType.Auto,) * 2, abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


def check_batch_size(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Raises UserError unless every device gets the same number of items, which `accumulate` divides."""
    if batch_size % mesh.size:
        raise UserError(f"batch_size={batch_size} is not a multiple of the number of devices, {mesh.size}")
    if batch_size // mesh.size % accumulate:
        raise UserError(
            f"accumulate={accumulate} does not divide the {batch_size // mesh.size} photos that each device has of "
            f"batch_size={batch_size}: choose a divisor"
        )


def one_device() -> Mesh:
    """A mesh of one device of this process."""
    return make_mesh(devices=jax.local_devices()[:1])


def join_processes(lost: str, timeout: int = 300) -> None:
    """Joins processes that were started alike into one training; call it before anything asks for a device.

    JAX finds the other processes on Cloud TPU, SLURM and Open MPI. Elsewhere set JAX_COORDINATOR_ADDRESS (host:port of
    the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Afterwards this process prints `lost` and exits with 1 if another process is gone or out of reach.

    Args:
        lost: the sentence.
        timeout: seconds to wait for the other processes.

    Raises:
        UserError: nothing says which processes there are.
        RunStopped: some of them do not come in time.
    """
    _say_at_loss(lost)
    try:
        count, index = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if index is None else int(index),
            heartbeat_timeout_seconds=LOST_AFTER,
            initialization_timeout=timeout,
        )
    except (ValueError, RuntimeError) as error:
        known = distributed.global_state
        if known.client is None:
            raise UserError(
                f"distributed: the other processes cannot be found ({error}): outside Cloud TPU, SLURM and Open MPI, "
                "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
            ) from None
        _leaving.set()  # there is nobody to take leave of
        raise RunStopped(  # the error itself says nothing: see `_say_at_loss`
            f"distributed: not all of the {known.num_processes} processes met at {known.coordinator_address} within "
            f"{timeout} seconds: start all of them, each with its own number, where they can reach that address, or "
            "wait longer with --initialization-timeout"
        ) from None


def _say_at_loss(lost: str) -> None:
    """Before `jax.distributed.initialize`, which hands no callback on: without one JAX aborts with a C++ stack."""

    def end(*status: object) -> None:
        if not _leaving.is_set():
            os.write(2, f"{lost}\n".encode())
            os._exit(1)

    runtime = distributed._jax  # pyright: ignore[reportPrivateImportUsage]  # nothing public takes the callback
    make_client = runtime.get_distributed_runtime_client
    runtime.get_distributed_runtime_client = functools.partial(make_client, missed_heartbeat_callback=end)
    # jaxlib 0.10 to 0.12 cannot turn the callback's argument into a Python object, and then calls std::terminate.
    with contextlib.suppress(OSError, AttributeError):  # another C++ library
        _kept.append(ctypes.CFUNCTYPE(None)(end))
        ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(_kept[-1])


def is_lost_process(error: Exception) -> bool:
    """Whether a computation raised this error because another process is gone."""
    words = ("gloo", "nccl", "unavailable", "coordination service", "connection")
    return jax.process_count() > 1 and any(word in str(error).lower() for word in words)


def leave_processes(code: int) -> NoReturn:
    """Ends this process with an exit code. One of several shuts down together with the others, if they end now too.

    It does not wait long for them: they may be waiting for this process in a computation, and learn of its end by then.
    """
    if code and jax.distributed.is_initialized():
        if not _leaving.is_set():
            _leaving.set()
            farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            farewell.start()
            farewell.join(FAREWELL)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_first_process() -> bool:
    """Whether this process writes the run folder and prints; true if it is the only one."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process; all must ask, and wait for each other."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def first_says(numbers: list[int]) -> list[int]:
    """What the first process calls with, in all; all must ask, and wait for each other."""
    if jax.process_count() == 1:
        return numbers
    return np.asarray(multihost_utils.broadcast_one_to_all(np.array(numbers))).tolist()


def any_says(text: str | None) -> str | None:
    """What the first of the processes that call with a text says, in all; None if none does.

    All must ask, and wait for each other. A text is cut at SAID bytes.
    """
    if jax.process_count() == 1:
        return text
    said = np.zeros(SAID, np.uint8)
    if text is not None:
        content = (text or " ").encode("utf-8", "replace")[:SAID]
        said[: len(content)] = np.frombuffer(content, np.uint8)
    each = multihost_utils.process_allgather(said)
    texts = [bytes(row).rstrip(b"\0").decode("utf-8", "ignore") for row in each]
    return next(filter(None, texts), None)


def sum_over_processes(x: np.ndarray) -> np.ndarray:
    """The sum over the processes, in all of them; or, of booleans, whether any is true. All must ask."""
    if jax.process_count() == 1:
        return x
    return multihost_utils.process_allgather(x).sum(axis=0, dtype=x.dtype)


def own_places(mesh: Mesh, n: int) -> np.ndarray:
    """bool[n], the places of a global batch that lie on this process's devices."""
    own = np.zeros(n, bool)
    for places in batch_sharding(mesh).addressable_devices_indices_map((n,)).values():
        own[places] = True
    return own


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split along the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, Array]:
    """The process's part of a global batch, as arrays split over all devices."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def place_whole_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, Array]:
    """A global batch of which every process has at least its `own_places`, as arrays split over all devices."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_callback(x.shape, sharding, x.__getitem__) for name, x in batch.items()}


def state_sharding(mesh: Mesh, state: PyTree) -> PyTree:
    """The sharding of every array of a TrainState (or of its shapes).

    The queue is split along its batch axis; an array of FSDP_SMALLEST elements or more along the largest axis that
    `shard` divides; all else is copied.
    """

    def parameter(x: Any) -> NamedSharding:
        shards = mesh.shape["shard"]
        axes = [axis for axis in range(x.ndim) if x.shape[axis] % shards == 0]
        if shards == 1 or x.size < FSDP_SMALLEST or not axes:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "shard"))

    def leaf(x: Any) -> Any:
        if isinstance(x, Queue):
            labels = None if x.labels is None else batch_sharding(mesh)
            return dataclasses.replace(x, keys=batch_sharding(mesh), count=replicated(mesh), labels=labels)
        return parameter(x)

    return jax.tree.map(leaf, state, is_leaf=lambda x: isinstance(x, Queue))


def replicate(x: Array) -> Array:
    """`x` on every device, inside a step: an all-gather if `x` is split. Without a mesh, `x` itself.

    Used for the small side of a product with something large and split (the anchors against the queue), so that the
    large side stays where it is.
    """
    return _constrained(x, PartitionSpec())


def gather_parameters(params: PyTree) -> PyTree:
    """Parameters for use by a network inside a step: whole on every device, an all-gather of each that FSDP has split.

    Without it XLA may split activations the way the parameters are, and then moves the activations.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return params if mesh.empty or mesh.shape["shard"] == 1 else jax.tree.map(replicate, params)


def split_columns(x: Array) -> Array:
    """`x` [N, K] split along K over all devices, inside a step, and so its gradient. Without a mesh, `x` itself."""
    return _constrained(x, PartitionSpec(None, BATCH_AXES))


def split_rows(x: Array, axis: int = 0) -> Array:
    """`x` split along an axis over all devices, inside a step. Without a mesh, `x` itself."""
    return _constrained(x, PartitionSpec(*[None] * axis, BATCH_AXES))


def _constrained(x: Array, spec: PartitionSpec) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty or mesh.manual_axes else jax.lax.with_sharding_constraint(x, spec)


def device_count() -> int:
    """How many devices divide what is traced: those of the mesh in force; 1 without a mesh, and in `on_own_share`."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty or mesh.manual_axes else mesh.size


def target_platform() -> str:
    """The platform of the mesh in force, such as "cpu", "gpu" or "tpu": a step may be compiled for another machine.

    Without a mesh, the platform of jax's default devices.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def one_cpu() -> bool:
    """Whether the target is a CPU that is a single device, so that no batch is divided between devices."""
    return target_platform() == "cpu" and jax.device_count("cpu") == 1


def on_cpu(fast: Callable[P, R], when: Callable[[], bool] | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates an operation so that `fast` stands in for it where the target is a CPU (or where `when` is true)."""

    def decorate(plain: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(plain)
        def operation(*args: P.args, **kwargs: P.kwargs) -> R:
            chosen = when() if when else target_platform() == "cpu"
            return (fast if chosen else plain)(*args, **kwargs)

        return operation

    return decorate


def on_own_items(f: Callable[..., Array], *batches: Array, whole: PyTree = None) -> Array:
    """`f(*batches, whole)` on each device's own items, and all of `whole`, for kernels: the compiler cannot split them.

    The number of items must be a multiple of the number of devices.
    """
    if device_count() == 1:
        return f(*batches, whole)
    split = PartitionSpec(BATCH_AXES)
    specs = (*(split for _ in batches), PartitionSpec())
    return jax.shard_map(f, in_specs=specs, out_specs=split, check_vma=False)(*batches, whole)


def on_own_share(part: Callable[..., tuple[PyTree, PyTree]], whole: PyTree, rows: PyTree) -> tuple[PyTree, PyTree]:
    """`part(axes, whole, rows)` on each device, with all of `whole` and its own share of the rows, a first axis.

    It returns a value that is equal on all devices, which it sums over the mesh's `axes`, and a value for each of its
    rows. If the devices do not divide the rows, these are padded with zeros. On one device, or without a mesh, `part`
    is called once, with no axes. The gradient by `whole` is summed over the devices once, after all else.
    """
    devices = device_count()
    if devices == 1:
        return part((), whole, rows)
    count = {x.shape[0] for x in jax.tree.leaves(rows)}.pop()
    missing = -count % devices
    padded = jax.tree.map(lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) if missing else x, rows)
    split = PartitionSpec(BATCH_AXES)
    each = jax.shard_map(
        lambda whole, rows: part(BATCH_AXES, whole, rows),
        in_specs=(PartitionSpec(), split),
        out_specs=(PartitionSpec(), split),
        check_vma=False,
    )
    equal, own = each(whole, padded)
    return equal, jax.tree.map(lambda x: x[:count], own)


def share_axes() -> tuple[str, ...]:
    """Inside `on_own_share`, the axes of the mesh over which the rows at hand are one share; elsewhere none."""
    return jax.sharding.get_abstract_mesh().manual_axes


def all_rows(own: int) -> int:
    """How many rows all devices have together, of which each traces so many: as many outside `on_own_share`."""
    return own * math.prod(jax.lax.axis_size(axis) for axis in share_axes())


def own_rows(x: Array, axis: int = 0) -> Array:
    """Of an array for the rows of all devices, the part for those at hand: `x` itself outside `on_own_share`."""
    own = x.shape[axis] // all_rows(1)
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(share_axes()) * own, own, axis) if share_axes() else x
