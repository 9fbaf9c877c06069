"""The restart with huge pages keeps the command, happens once, and stays away from processes that run already."""

import platform
import subprocess
import sys

import pytest

import ssljax.cli.allocator as allocator

PROGRAM = """
import os, sys
from pathlib import Path
from ssljax.cli.main import allocator
allocator._KERNEL = Path(sys.argv[1])
print("start", flush=True)
allocator.restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[2:], flush=True)
"""


def _lines(tmp_path, setting):
    kernel = tmp_path / "enabled"
    kernel.write_text(setting)
    command = [sys.executable, "-c", PROGRAM, str(kernel), "a", "b c"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_restarts_once_with_the_same_arguments(tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert _lines(tmp_path, "always [madvise] never") == ["start", "start", "glibc.malloc.hugetlb=1 ['a', 'b c']"]


def test_leaves_the_process_where_nothing_would_change(tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert _lines(tmp_path, "[always] madvise never") == ["start", "None ['a', 'b c']"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert _lines(tmp_path, "always [madvise] never") == ["start", "glibc.malloc.check=0 ['a', 'b c']"]


def test_does_nothing_once_jax_is_imported(monkeypatch):
    import jax  # noqa: F401

    monkeypatch.setattr(allocator.os, "execve", lambda *args: 1 / 0)
    allocator.restart_with_huge_pages()
