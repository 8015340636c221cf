"""The processors to compute on: how many torch leaves idle, and how many a thread may use."""

import os

import torch


def processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_processors() -> int:
    """Return how many processors torch leaves idle when it computes in this thread: other threads may use them for free."""
    return max(0, processors() - torch.get_num_threads())


def compute_on(count: int = 1) -> None:
    """Make torch compute on `count` processors in this thread; for threads beside the main one.

    The main thread, and any thread that has computed before, keeps its own number. Threads that start later have this one,
    until they ask for another.

    By default every thread gets a team of OpenMP threads as large as the main one's. With more of them than processors, those
    of the main thread sleep instead of spinning for work, even while the others are idle: each step takes a quarter longer
    (docs/benchmarks.md).
    """
    torch.set_num_threads(count)
