"""The device to compute on."""

import os
import re

import torch

from prepkd.errors import InputError
from prepkd.runtime.allocator import keep_freed_memory

# More than any machine's processors; torch ends the process if the system cannot start that many threads.
MAX_THREADS = 1024


def choose_device(threads: int | None = None) -> torch.device:
    """Return the GPU if the machine has one, else the CPU, where malloc then keeps freed memory.

    On the CPU, torch uses `threads` threads; None keeps torch's default.
    """
    if threads:
        torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return _gpu()
    keep_freed_memory()
    return torch.device("cpu")


def _gpu() -> torch.device:
    """The GPU of this process, by the LOCAL_RANK that a launcher sets."""
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        return torch.device("cuda")
    if not local.isdecimal() or int(local) >= torch.cuda.device_count():
        raise InputError(
            f"LOCAL_RANK is {local!r} on a machine with {torch.cuda.device_count()} GPUs; start one process each"
        )
    torch.cuda.set_device(int(local))
    return torch.device("cuda", int(local))


def device_like(written_on: str) -> torch.device:
    """Return the GPU if the machine has one, else the CPU with the thread count of a `device_name`, for bitwise equal results."""
    threads = re.search(r"(\d+) threads", written_on)
    if threads and (len(threads[1]) > 4 or not 1 <= int(threads[1]) <= MAX_THREADS):
        raise InputError(f"device is {written_on[:60]!r}; expected 1 to {MAX_THREADS} threads")
    return choose_device(int(threads[1]) if threads and not torch.cuda.is_available() else None)


def device_name(device: torch.device) -> str:
    """Name a device as stores record it; a CPU's name has the thread count, which changes the last bits of results."""
    return device.type if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads"
