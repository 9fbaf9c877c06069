"""The memory setting that makes training on a CPU faster.

XLA frees its scratch memory after each step and asks for it again; glibc maps it anew each time, and touching it page
by page costs a quarter of the step. With huge pages that cost nearly goes, and the process grows no larger. (Telling
glibc never to give memory back, mallopt's M_MMAP_MAX=0 and M_TRIM_THRESHOLD, is as fast, but took 2 to 3 times the
memory.) glibc reads the setting when a process starts, hence the restart; in a program of one's own, set
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment.
"""

import os
import platform
import sys
from pathlib import Path

_SETTING = "glibc.malloc.hugetlb=1"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Starts this very command again with huge pages, where that changes anything; otherwise returns.

    It changes something on Linux with glibc, if the kernel gives huge pages to those who ask and nobody set
    GLIBC_TUNABLES. It belongs on the first line of a command, as nothing before it is kept; after the import of jax
    it does nothing.
    """
    if "jax" in sys.modules or "GLIBC_TUNABLES" in os.environ or platform.libc_ver()[0] != "glibc":
        return
    if not _KERNEL.exists() or "[madvise]" not in _KERNEL.read_text():
        return
    environment = os.environ | {"GLIBC_TUNABLES": _SETTING}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
