"""The device to compute on."""

import os
import re

import torch

from prepkd.runtime.allocator import keep_freed_memory

MOST_THREADS = 64


def choose_device(threads: int | None = None) -> torch.device:
    """Return the GPU if the machine has one, else the CPU; there keep freed memory.

    On the CPU torch computes on `threads` processors; None leaves torch's own choice.
    """
    if threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed_memory()
    return torch.device("cpu")


def device_like(written_on: str) -> torch.device:
    """Return the GPU if the machine has one, else the CPU with the thread count of a `device_name`: bits can then be equal.

    The name may come from anybody: more threads than 64 and than processors are not started.
    """
    threads = re.search(r"(\d{1,6}) threads", written_on)
    most = max(MOST_THREADS, os.cpu_count() or 1)
    return choose_device(min(int(threads[1]), most) if threads and not torch.cuda.is_available() else None)


def device_name(device: torch.device) -> str:
    """Name a device as stores record it; on a CPU with the thread count, which changes the last bits of results."""
    return device.type if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads"
