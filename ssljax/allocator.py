"""Memory settings that make training on a CPU faster; call before jax is imported."""

import ctypes

# malloc.h's names. Without them glibc maps each big buffer at every step and gives it back, so that page faults
# dominate the step; with them freed memory stays in the process: 20-45 % faster steps for 25-75 % more memory.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep the memory that is freed; False, and no change, where the C library is another."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 256 << 20, _M_ARENA_MAX: 1}
    return all([mallopt(name, value) for name, value in settings.items()])
