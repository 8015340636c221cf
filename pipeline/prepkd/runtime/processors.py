"""Processor counts: available to this process, left idle by torch, and used by a thread."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def processors() -> int:
    """Return how many processors this process may use: those that it may run on, or fewer by a container's limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min([allowed, *_quotas()]))


def _quotas() -> Iterator[float]:
    """The limits of processor time of this process's cgroups and of those above, in processors; none outside Linux."""
    with contextlib.suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own = PurePosixPath(path.lstrip("/"))
            for group in (own, *own.parents):
                if not controllers:  # version 2
                    yield from _quota(CGROUPS / group / "cpu.max")
                elif "cpu" in controllers.split(","):  # version 1
                    above = CGROUPS / "cpu" / group
                    yield from _quota(above / "cpu.cfs_quota_us", above / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[float]:
    """The processors that files with a quota and a period allow; none without a limit, or without the files."""
    with contextlib.suppress(OSError):  # the topmost group, or one outside this container
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


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
