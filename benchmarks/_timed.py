"""Students that record the times of their training: `benchmarks._timed:resnet8` is the zoo's resnet8.

At exit the times, in seconds since 1970, are written as JSON to the file named by the environment variable NOTES: `epochs`,
the start of each epoch; `first step`, the end of the first backward pass; `steps`, the start of each forward pass and the end
of its backward pass (on a CPU only; a GPU's kernels are launched, not waited for). With FIRST_STEP_ONLY set, the process ends
after the first step.
"""

import atexit
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from prepkd import build_model
from torch import Tensor

from benchmarks._watched import Watched

NOTES, FIRST_STEP_ONLY = "NOTES", "FIRST_STEP_ONLY"  # environment variables


class Timed(Watched):
    """A model that records the times of its training."""

    def __init__(self, name: str, num_classes: int, in_channels: int) -> None:
        super().__init__(build_model(name, num_classes, in_channels=in_channels))
        self.moments: dict[str, list[Any]] = {"epochs": [], "first step": [], "steps": []}
        self.on_cpu = False
        if self.reports:
            atexit.register(self.write)

    def write(self) -> None:
        """Write the times."""
        Path(os.environ[NOTES]).write_text(json.dumps(self.moments))

    def epoch_begins(self) -> None:
        """Record the start of an epoch."""
        self.moments["epochs"].append(time.time())

    def step_begins(self, pixels: Tensor) -> None:
        """Record the start of a forward pass."""
        if not self.moments["first step"]:
            self.on_cpu = pixels.device.type == "cpu"
            del self.moments["epochs"][:-1]  # from trial batches before training
        if self.on_cpu:
            self.moments["steps"].append([time.time()])

    def gradients_exist(self) -> None:
        """Record the end of a backward pass."""
        if self.on_cpu:
            self.moments["steps"][-1].append(time.time())
        if not self.moments["first step"]:
            self.moments["first step"].append(time.time())
            if FIRST_STEP_ONLY in os.environ:
                self.write()
                os._exit(0)


def __getattr__(name: str) -> Callable[..., Timed]:
    """Return the factory for a zoo model's name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return partial(Timed, name)
