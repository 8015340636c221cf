"""glibc's malloc set to keep freed memory: every step frees what the next one allocates again; slabs lie beside its heap."""

import ctypes
import mmap
import os
import platform
from math import prod

import torch
from torch import Tensor

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt's numbers for them
SLAB = 2**23  # bytes from which a slab has pages of its own
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
    """Return what is free in the heap to the system, once for a store: its next large arrays fit into no hole.

    Takes milliseconds. Only for glibc; other allocators are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def new_slab(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor of this shape, with the dtype and on the device of `like`, that outlives a step.

    On a CPU a large one has pages of its own, which the system has back as soon as it is freed: the next view's answers would
    fit into no hole of the heap, once small arrays lie in it.
    """
    size = prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < SLAB:
        return like.new_empty(*shape)
    return torch.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=like.dtype).view(shape)
