"""Time STEPS steps of a case of `benchmarks.step` in a separate process, after as many warm-up steps; print JSON.

python -m benchmarks._allocating kept|returned MODEL CASE BATCH_SIZE STEPS; MODEL is both teacher and student.
"""

import json
import sys
import time

import torch
from prepkd.runtime.allocator import keep_freed_memory

from benchmarks._measure import peak_memory
from benchmarks._steps import CASES, Pair


def main(freed: str, model: str, case: str, batch_size: int, steps: int) -> dict[str, float]:
    """Return the seconds of the steps, and the process's peak memory in bytes."""
    torch.set_num_threads(1)
    if freed == "kept":
        keep_freed_memory()
    run = CASES[case](Pair(model, model, batch_size, steps, torch.device("cpu"), "auto"))
    run(0)
    started = time.perf_counter()
    run(1)
    return {"seconds": time.perf_counter() - started, "peak_memory": peak_memory()["own"]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], *map(int, sys.argv[4:]))))
