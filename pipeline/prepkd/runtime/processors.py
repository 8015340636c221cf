"""Processor counts: available to this process, left idle by torch, and used by a thread."""

import os

import torch


def processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_processors() -> int:
    """Return how many processors stay idle while torch computes in this thread, and so are free for other threads."""
    return max(0, processors() - torch.get_num_threads())


def compute_on(count: int = 1) -> None:
    """Make torch compute on `count` processors in this thread; for threads other than the main one.

    The main thread, and any thread that has computed before, keeps its own count. Threads that start later inherit this one
    until they set another.

    By default every thread gets a team of OpenMP threads as large as the main thread's. If there are more of them than
    processors, those of the main thread sleep instead of spinning, even while the others are idle: each step takes a quarter
    longer (docs/benchmarks.md).
    """
    torch.set_num_threads(count)
