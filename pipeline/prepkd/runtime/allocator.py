"""Memory that every step frees and the next one wants again."""

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt's numbers for them
MOST_KEPT = 2**31 - 1  # bytes at the heap's end, and mallopt takes an int; holes below it are kept as they are


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed, in one place for all threads that start later.

    As it comes it maps every large tensor anew and gives memory back after each step, and the kernel clears all of it again:
    a quarter of a teacher's pass on a CPU (docs/benchmarks.md). The process stays as large as it once was. What `MALLOC_*`
    variables or `GLIBC_TUNABLES` ask for stands; other allocators are left alone.
    """
    asked = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if asked or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(ARENA_MAX, 1)  # else every thread that reads a slab would keep one
