"""Run a `prepkd` command, and print the process's memory and the bytes that it read as JSON.

    python -m benchmarks._process COMMAND OPTIONS

`start` is the resident memory after the libraries are imported, `peak` the largest after that; `read` counts every `read`
of the process, including files in the page cache.
"""

import json
from pathlib import Path

import dvclive.live  # noqa: F401 - the stage imports it after the first epoch
import prepkd.stages.cache_features
import prepkd.stages.cache_logits
import prepkd.stages.distill  # noqa: F401 - the command line imports them when a command runs
import torch
from prepkd.cli import main


def status(field: str) -> int:
    """Return the bytes of this process's memory: VmRSS is the current, VmHWM the largest size."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def forget_peak() -> int:
    """Reset the peak memory to the present one; returns the resident bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def bytes_read() -> int:
    """Return the bytes that this process has read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))


def run() -> None:
    """Run the command line and print the figures."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports torch._dynamo
    start = forget_peak()
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print(json.dumps({"start": start, "peak": status("VmHWM"), "read": bytes_read()}))


if __name__ == "__main__":
    run()
