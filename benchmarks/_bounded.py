"""Run `prepkd distill` with a memory limit far below the size of its data; print sizes in MB as JSON.

    python -m benchmarks._bounded LIMIT_MB DATA.h5 distill OPTIONS

The student is one of `benchmarks._held`. The limit excludes the memory of imported libraries, and the prepared file, which
is mapped.
"""

import json
import sys

import dvclive.live  # noqa: F401 - the stage imports it after the first epoch
import h5py
import prepkd.stages.distill  # noqa: F401 - the command line imports it when the command runs
import torch
from prepkd.cli import main

from benchmarks import _held
from benchmarks._limit import MB, limit
from benchmarks._measure import peak_memory


def run(size: int, data: str) -> None:
    """Run the command line under a limit of `size` bytes, and print the sizes."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports torch._dynamo
    with h5py.File(data) as file:
        content = file["train/content"].size
    start = limit(size)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    found = {"data": content, "limit": size, "peak": _held.found["peak"] - start, "rss": peak_memory()["own"]}
    print(json.dumps({"images": _held.found["images"]} | {name: value / MB for name, value in found.items()}))


if __name__ == "__main__":
    run(int(sys.argv.pop(1)) * MB, sys.argv.pop(1))
