"""The compilation cache: compiled programs are kept, so that what was compiled once need not be again."""

import os
from typing import Any

import jax
import jax.monitoring
import platformdirs

_hits = 0


def keep_compiled() -> None:
    """From now on compiled programs are kept in the user's cache folder, and a second run of the same needs seconds.

    That is ~/.cache/ssljax/jax on Linux. JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false keeps nothing. Nor does a folder that cannot be written.
    """
    config: Any = jax.config  # type checkers do not see its settings
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    folder = platformdirs.user_cache_path("ssljax") / "jax"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK | os.X_OK):
        config.update("jax_compilation_cache_dir", str(folder))


def hits() -> int:
    """How many programs this process has read from the cache."""
    return _hits


def _count(event: str, **_: object) -> None:
    global _hits
    _hits += event == "/jax/compilation_cache/cache_hits"


jax.monitoring.register_event_listener(_count)
