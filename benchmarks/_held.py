"""Students that note their process's memory while they are trained: `benchmarks._held:convnet4` is the zoo's convnet4."""

from collections.abc import Callable
from functools import partial

from prepkd import build_model
from torch import Tensor

from benchmarks._limit import private
from benchmarks._watched import Watched

# The training images seen, and the most private memory that was held at the end of a backward pass, in bytes.
found = {"images": 0, "peak": 0}


class Held(Watched):
    """A model that counts its training images and notes the largest private memory."""

    def __init__(self, name: str, num_classes: int, in_channels: int) -> None:
        super().__init__(build_model(name, num_classes, in_channels=in_channels))

    def step_begins(self, pixels: Tensor) -> None:
        """Count the images."""
        found["images"] += len(pixels)

    def gradients_exist(self) -> None:
        """Note the memory."""
        found["peak"] = max(found["peak"], private("RssAnon"))


def __getattr__(name: str) -> Callable[..., Held]:
    """Make the factory of a zoo model's name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return partial(Held, name)
