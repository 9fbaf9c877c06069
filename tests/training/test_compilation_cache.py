"""The compilation cache: in the user's folder by default, never in the way, and told of."""

import os
import stat
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ssljax.training.compilation_cache import keep_compiled
from ssljax.training.logging import compiling


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """No cache folder is set, and the user's is in `tmp_path`."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_in_the_users_cache_folder(unset):
    keep_compiled()
    folder = Path(jax.config.jax_compilation_cache_dir)
    assert folder.is_relative_to(unset) and folder.parts[-2:] == ("ssljax", "jax")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700  # what is in it is executed


def test_a_folder_that_is_set_stays_and_the_cache_can_be_off(unset):
    jax.config.update("jax_compilation_cache_dir", str(unset / "own"))
    keep_compiled()
    assert jax.config.jax_compilation_cache_dir == str(unset / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keep_compiled()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None
    assert not (unset / "cache").exists()


def test_a_folder_that_cannot_be_made_is_no_error(unset):
    (unset / "cache").write_text("a file")
    keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None


def test_what_comes_from_the_cache_is_told(capsys):
    number = int.from_bytes(os.urandom(3))  # a program that no earlier test has compiled
    for _ in range(2):
        jax.clear_caches()
        with compiling(first=True):
            jax.jit(lambda x: jnp.sin(x) * number)(1.0)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Compiled")]
    assert said == ["Compiled in 0 s.", "Compiled in 0 s, from the cache."]
