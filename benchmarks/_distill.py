"""`prepkd distill` in this process, and when its first step, each of its epochs and itself were over, in seconds since 1970.

`steps` is when each computation of gradients began and ended, on a CPU.

python -m benchmarks._distill OPTIONS OF PREPKD DISTILL; prints JSON. With `FIRST_STEP_ONLY` set it ends with its first step.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Times = dict[str, list[Any]]


def watch(times: Times) -> None:
    """Have the training loop note when its first gradients were there and when an epoch was reported."""
    from prepkd.training import loop as train
    from prepkd.training import student as students

    make, loop = train.make_gradients, train.train

    def make_gradients(*arguments: Any) -> Callable[..., Any]:
        gradients, waits = make(*arguments), arguments[3].type == "cpu"  # a GPU's kernels are launched, not waited for

        def run(*batch: Any) -> Any:
            began = time.time()
            values = gradients(*batch)
            if waits:
                times["steps"].append([began, time.time()])
            if not times["first step"]:
                times["first step"].append(time.time())
                if "FIRST_STEP_ONLY" in os.environ:
                    print(json.dumps(times))
                    sys.stdout.flush()
                    os._exit(0)
            return values

        return run

    def run(*arguments: Any, on_epoch: Callable[[Any], None], **settings: Any) -> Any:
        def report(row: Any) -> None:
            on_epoch(row)
            times["epochs"].append(time.time())

        return loop(*arguments, on_epoch=report, **settings)

    train.make_gradients, students.train = make_gradients, run


if __name__ == "__main__":
    from prepkd.cli import main
    from prepkd.stages import _teaching

    found: Times = {"first step": [], "epochs": [], "steps": []}
    read = _teaching.read_dataset

    def watched(*arguments: Any) -> Any:
        dataset = read(*arguments)
        watch(found)  # no earlier: it imports what the stage imports next
        return dataset

    _teaching.read_dataset = watched
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print(json.dumps(found | {"end": [time.time()]}))
