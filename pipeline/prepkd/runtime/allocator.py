"""glibc's malloc set to keep freed memory: every step frees what the next one allocates again."""

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt's numbers for them
MOST_KEPT = 2**31 - 1  # bytes at the heap's end, and mallopt takes an int; holes below it are kept in any case


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory, in one arena for all threads that start later.

    By default glibc returns large blocks after each step, so the kernel zeroes them again: a quarter of a teacher's pass on a
    CPU (docs/benchmarks.md). The process stays as large as its peak. Settings in `MALLOC_*` variables or `GLIBC_TUNABLES`
    take precedence; other allocators are left alone.
    """
    asked = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if asked or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(ARENA_MAX, 1)  # else every thread that reads a slab would keep an arena


def return_freed_memory() -> None:
    """Return what is free in the heap to the system, once for a view or a store: its next large arrays fit into no hole.

    Takes milliseconds. Only for glibc; other allocators are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
