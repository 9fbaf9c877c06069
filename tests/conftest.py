"""Set before jax is imported: eight virtual CPU devices, quick compilation, and no silent rank promotion."""

import gc
import os
import time
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tests compile much and compute little: LLVM's optimisations would take most of their time.
FLAGS = " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # 0.12 has no such flag, and stops at what it does not know
    FLAGS += " --xla_cpu_use_fusion_emitters=false"  # MLIR's passes take longer than the rest of the compiler
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + FLAGS

from pathlib import Path

# What one test compiled another process, or module, need not: reading a small program takes half its compilation.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")
jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(50_000)  # tracing makes objects by the million; looking for cycles in them took up to a fifth of it


def pytest_runtest_setup(item):
    """Skips a test marked `real_data("fashion")` unless that folder is under SSLJAX_DATA, and all after TESTS_UNTIL."""
    if time.time() > float(os.environ.get("TESTS_UNTIL", "inf")):
        pytest.skip("TESTS_UNTIL, in seconds since 1970, has passed")
    for marker in item.iter_markers("real_data"):
        if not os.environ.get("SSLJAX_DATA"):
            pytest.skip("SSLJAX_DATA is not set")
        for name in marker.args:
            if not Path(os.environ["SSLJAX_DATA"], name).is_dir():
                pytest.skip(f"SSLJAX_DATA has no {name}/")


@pytest.fixture(scope="module", autouse=True)
def forget_what_is_compiled():
    """Compiled programs of a thousand tests are gigabytes, and more memory maps than Linux lets a process have."""
    yield
    jax.clear_caches()
