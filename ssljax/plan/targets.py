"""The machines that a plan is made for: names, the facts of their chips, and devices to compile for that are not here.

TPUs are compiled for by libtpu, GPUs by JAX's CUDA plug-in; both are Python packages, and neither needs its device.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import re
from collections.abc import Iterator
from importlib.metadata import requires, version
from typing import Any

from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.experimental import topologies

from ssljax.types import UserError

GIB, GB, TERA = 2**30, 1e9, 1e12


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a chip can do. Memory is what a program may use; bandwidths are in bytes a second."""

    platform: str
    """ "tpu" or "gpu" """
    memory: float
    """bytes"""
    flops: float
    """a second, of bfloat16 products"""
    bandwidth: float
    """to the chip's memory"""
    links: float
    """to other chips of the machine, all links together, one way"""
    clock: float = 0.0
    """cycles a second, where the compiler estimates cycles"""
    host: int = 0
    """chips of a machine, where machines are joined by a network"""
    network: float = 0.0
    """of a chip to other machines"""
    config: str = ""
    """XLA's description of a GPU"""

    def passes(self, kind: str, attributes: str) -> float:
        """How much longer a product of arrays of this type takes than one in bfloat16, by its precision."""
        if kind != "f32":
            return 1.0
        precision = (
            "highest"
            if re.search("highest", attributes, re.I)
            else "high"
            if re.search(r"\bhigh\b", attributes, re.I)
            else "default"
        )
        return PASSES[self.platform][precision]


# Of float32 products: a TPU makes passes in bfloat16. GPUs have TF32 at half the rate, and float32 without tensor
# cores at a fifteenth (67 of 989 TFLOP/s, and 19.5 of 312).
PASSES = {
    "tpu": {"default": 1.0, "high": 3.0, "highest": 6.0},
    "gpu": {"default": 2.0, "high": 2.0, "highest": 15.0},
}
# JAX takes three quarters of a GPU's memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
SHARE_OF_GPU = 0.75


def _gpu(cores: int, fpus: int, shared: int, optin: int, l2: int, clock: float, memory: int, bandwidth: float, sm: str):
    """GpuTargetConfigProto as text; the figures are those of XLA's own xla/backends/gpu/target_config/specs."""
    return (
        "gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 "
        f"shared_memory_per_core: {shared} threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: {fpus} "
        "block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 "
        f"memory_bandwidth: {bandwidth:.0f} l2_cache_size: {l2} clock_rate_ghz: {clock} device_memory_size: {memory} "
        f"shared_memory_per_block_optin: {optin} cuda_compute_capability {{ {sm} }} "
        'registers_per_core_limit: 65536 registers_per_block_limit: 65536 } platform_name: "CUDA" '
        "dnn_version_info { major: 9 minor: 8 patch: 0 }"
    )


HOPPER = {"cores": 132, "fpus": 128, "shared": 233472, "optin": 232448, "l2": 52428800, "clock": 1.98}
HOPPER |= {"sm": "major: 9 minor: 0"}
AMPERE = {"cores": 108, "fpus": 64, "shared": 167936, "optin": 166912, "l2": 41943040, "clock": 1.41}
AMPERE |= {"sm": "major: 8 minor: 0"}
# FLOP/s, bandwidths and links: docs.cloud.google.com/tpu/docs/v5e, v5p, v6e (links are given there for both ways
# together) and NVIDIA's data sheets of A100, H100 and H200 SXM (without sparsity; NVLink likewise). Memory of a TPU:
# what its compiler says is available when a program needs more. Clocks: FLOPs a cycle of the chip's matrix units times
# the clock is the peak (v5e: 4 x 128 x 128 x 2 x 1.5 GHz = 197 TFLOP/s; v5p: twice the units at 1.75 GHz; v6e: 4 x 256
# x 256 x 2 x 1.75 GHz = 918), of which an 8192 x 8192 product in bfloat16 reaches 88, 90 and 70 % by the compiler's
# cycles. Network: 400 Gbit/s a GPU (H100, H200) and 200 (A100), as in NVIDIA's DGX.
CHIPS = {
    "v5e": Chip("tpu", 15.75 * GIB, 197 * TERA, 819 * GB, 200 * GB, 1.5 * GB),
    "v5p": Chip("tpu", 95.74 * GIB, 459 * TERA, 2765 * GB, 600 * GB, 1.75 * GB),
    "v6e": Chip("tpu", 31.25 * GIB, 918 * TERA, 1638 * GB, 400 * GB, 1.75 * GB),
    "a100": Chip(
        *("gpu", 85100068864 * SHARE_OF_GPU, 312 * TERA, 2039 * GB, 300 * GB),
        **{"host": 8, "network": 25 * GB, "config": _gpu(memory=85100068864, bandwidth=2039.04 * GB, **AMPERE)},
    ),
    "a100_40gb": Chip(
        *("gpu", 42331013120 * SHARE_OF_GPU, 312 * TERA, 1555 * GB, 300 * GB),
        **{"host": 8, "network": 25 * GB, "config": _gpu(memory=42331013120, bandwidth=1555.2 * GB, **AMPERE)},
    ),
    "h100": Chip(
        *("gpu", 84942979072 * SHARE_OF_GPU, 989 * TERA, 3352 * GB, 450 * GB),
        **{"host": 8, "network": 50 * GB, "config": _gpu(memory=84942979072, bandwidth=3352.32 * GB, **HOPPER)},
    ),
    "h200": Chip(
        *("gpu", 151397597184 * SHARE_OF_GPU, 989 * TERA, 4800 * GB, 450 * GB),
        **{"host": 8, "network": 50 * GB, "config": _gpu(memory=151397597184, bandwidth=4800 * GB, **HOPPER)},
    ),
}
# The slices that Google rents, by the same pages: these of v5e and v6e; of v5p small ones, and all that are made of 4 x
# 4 x 4 chips, sides in order, none longer than 24, of 6,144 chips at most.
SQUARES = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
CUBES = (
    *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)),
    *(s for s in itertools.combinations_with_replacement(range(4, 25, 4), 3) if math.prod(s) <= 6144),
)
EXAMPLES = "v5e:2x4, v5p:2x2x1, v6e:4x4, h100:8, a100:8"
# libtpu asks the metadata server and the environment what machine it is on, where it is told nothing.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",  # several plans at a time, or beside a training
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine, or several as one: so many chips of a kind."""

    name: str
    chip: Chip
    chips: int

    @property
    def links(self) -> float:
        """Bytes a second that a chip sends to the others, by the slowest way that all must take."""
        return self.chip.network if self.chip.host and self.chips > self.chip.host else self.chip.links

    def devices(self) -> list[Any]:
        """Devices that can be compiled for, and run nothing; raises UserError if the compiler is not installed."""
        return _tpus(self.name) if self.chip.platform == "tpu" else _gpus(self)


def target(name: str) -> Target:
    """The target of a name such as v5e:2x4 or h100:8; raises UserError if there is none."""
    kind, _, layout = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"on={name!r} is not a known machine: name one of {', '.join(CHIPS)} and its layout ({EXAMPLES})"
        )
    chip = CHIPS[kind]
    if chip.platform == "gpu":
        count = int(layout) if layout.isdecimal() else 0
        if not 1 <= count <= chip.host and (not count or count % chip.host):
            raise UserError(
                f"on={name!r} must end in the number of GPUs, 1 to {chip.host}, or a multiple of {chip.host} for "
                f"several machines: try {kind}:{chip.host}"
            )
        return Target(name, chip, count)
    axes = 3 if kind == "v5p" else 2
    if not re.fullmatch("x".join([r"[1-9]\d{0,3}"] * axes), layout):
        raise UserError(
            f"on={name!r} must end in the {axes} sides of the slice: try {kind}:{'2x2x1' if axes == 3 else '2x4'}"
        )
    sides = tuple(int(side) for side in layout.split("x"))
    slices, chips = CUBES if axes == 3 else SQUARES, math.prod(sides)
    if sides not in slices:
        nearest = min(slices, key=lambda one: (abs(math.log(math.prod(one) / chips)), math.dist(one, sides)))
        raise UserError(f"on={name!r} is not a slice that can be rented: try {kind}:{'x'.join(map(str, nearest))}")
    return Target(name, chip, chips)


@contextlib.contextmanager
def _told_its_machine() -> Iterator[None]:
    """Within it libtpu is told what machine it is on; afterwards the environment is as it was."""
    before = dict(os.environ)
    os.environ.update(TPU_ENVIRONMENT | before)
    try:
        yield
    finally:
        for variable in [name for name in os.environ if "TPU_" in name and name not in before]:
            del os.environ[variable]


def _tpus(name: str) -> list[Any]:
    alone = {"chips_per_host_bounds": (1, 1, 1)} if name.endswith(":1x1") else {}  # else 2 x 2 chips a host, or more
    try:
        with _told_its_machine():
            return topologies.get_topology_desc(name, "tpu", **alone).devices
    except RuntimeError as error:
        if "not installed" in str(error):
            raise UserError(f"on={name!r} needs libtpu, which is not installed: {_install(compilers()[:1])}") from None
        raise UserError(f"on={name!r} is not known to libtpu ({_first(error)}): try {EXAMPLES}") from None


def _gpus(wanted: Target) -> list[Any]:
    of_a_host = min(wanted.chips, wanted.chip.host)
    layout = f"1x{wanted.chips // of_a_host}x{of_a_host}"
    config = {"target_config": wanted.chip.config, "topology": layout}
    try:  # tracing an attention asks which cuDNN is here, where the target's counts; nothing public says which
        cudnn.check_cudnn_version()
    except RuntimeError:
        cudnn.check_cudnn_version = lambda: 90800  # as in _gpu
    try:
        return topologies.get_topology_desc(wanted.name.partition(":")[0], "cuda", **config).devices
    except NotImplementedError:
        how = _install(compilers()[1:])
        raise UserError(f"on={wanted.name!r} needs JAX's CUDA plug-in, which is not installed: {how}") from None


def compilers() -> tuple[str, ...]:
    """The packages that compile for TPUs and for GPUs (two), as pip takes them, in the versions that go with jax."""
    libtpu = next((r.partition(";")[0].strip() for r in requires("jax") or () if r.startswith("libtpu")), "libtpu")
    return libtpu, *(f"{name}=={version('jaxlib')}" for name in ("jax-cuda13-plugin", "jax-cuda13-pjrt"))


def _install(packages: tuple[str, ...]) -> str:
    """How to install them where other commands do not find them: JAX would look for their devices, and complain."""
    quoted = " ".join(f"'{package}'" for package in packages)
    return f"pip install --no-deps --target compilers {quoted}, and run with PYTHONPATH=compilers"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
