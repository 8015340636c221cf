"""Students that record their process's memory during training: `benchmarks._held:convnet4` is the zoo's convnet4."""

from collections.abc import Callable
from functools import partial

from prepkd import build_model
from torch import Tensor

from benchmarks._limit import private
from benchmarks._watched import Watched

# The number of training images seen, and the largest private memory held at the end of a backward pass, in bytes.
found = {"images": 0, "peak": 0}


class Held(Watched):
    """A model that counts its training images and records the largest private memory."""

    def __init__(self, name: str, num_classes: int, in_channels: int) -> None:
        super().__init__(build_model(name, num_classes, in_channels=in_channels))

    def step_begins(self, pixels: Tensor) -> None:
        """Count the images."""
        found["images"] += len(pixels)

    def gradients_exist(self) -> None:
        """Record the memory."""
        found["peak"] = max(found["peak"], private("RssAnon"))


def __getattr__(name: str) -> Callable[..., Held]:
    """Return the factory for a zoo model's name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return partial(Held, name)
