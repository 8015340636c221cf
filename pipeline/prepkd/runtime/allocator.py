"""Make glibc's malloc keep freed memory, since every step reallocates the same blocks; large slabs lie outside its heap."""

import ctypes
import mmap
import os
import platform
from math import prod

import torch
from torch import Tensor

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt's parameter numbers
SLAB = 2**23  # bytes; a slab of at least this size gets its own pages
MAX_KEPT = 2**31 - 1  # bytes kept at the heap's end, the largest int for mallopt; holes below the end are always kept


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
    libc.mallopt(TRIM_THRESHOLD, MAX_KEPT)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(ARENA_MAX, 1)  # otherwise every thread that reads a slab would keep an arena


def return_freed_memory() -> None:
    """Return free heap memory to the system, once per store: the next large arrays do not fit into the heap's holes.

    Takes milliseconds. Affects only glibc; other allocators are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def new_slab(like: Tensor, *shape: int) -> Tensor:
    """Return an uninitialised tensor of this shape that outlives a step, with the dtype and device of `like`.

    On a CPU a large tensor gets its own pages, which return to the system as soon as it is freed. In the heap, small arrays
    would fill the hole that it leaves, so that the next view's logits no longer fit.
    """
    size = prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < SLAB:
        return like.new_empty(*shape)
    return torch.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=like.dtype).view(shape)
