"""Resident memory of a process, as Linux has it."""

import ctypes
from pathlib import Path
from typing import Literal


def memory_mib(field: Literal["VmRSS", "VmHWM"], process: int | str = "self") -> float:
    """Resident memory of a process, now or at its peak."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def forget_peak() -> None:
    """Lets the peak of this process begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def give_back_freed() -> None:
    """Gives to Linux what glibc keeps of freed memory, as compilers leave much."""
    ctypes.CDLL(None).malloc_trim(0)
