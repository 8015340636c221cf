"""Memory that every step frees and the next one wants again."""

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt's numbers for them
MOST_KEPT = 2**31 - 1  # bytes: mallopt takes an int


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed, in one place for all threads.

    As it comes it maps every large tensor anew and gives memory back after each step, and the kernel clears all of it again:
    a quarter of a teacher's pass on a CPU (docs/benchmarks.md). What `MALLOC_*` variables ask for stands; other allocators
    are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(ARENA_MAX, 1)  # else every thread that reads a slab would keep one
