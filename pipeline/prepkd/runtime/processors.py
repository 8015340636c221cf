"""The processors that there are to compute on: which torch leaves idle, and how many a thread may use."""

import os


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_processors() -> int:
    """How many of them torch leaves idle when it computes in this thread: work in others is then for free."""
    import torch  # late: who only counts processors does not wait for it

    return max(0, processors() - torch.get_num_threads())


def compute_on(count: int = 1) -> None:
    """Have torch compute on so many processors in this thread; for threads beside the main one.

    The main one, and whichever has computed before, keeps its own number; a thread that starts later has this one, until it
    asks for another.

    Left alone, a thread gets a team of OpenMP threads as large as the main one's. With more of them in all than processors,
    those of the main thread no longer wait for work but sleep, also while the others have nothing to do: a quarter more time
    for each step (docs/benchmarks.md).
    """
    import torch

    torch.set_num_threads(count)
