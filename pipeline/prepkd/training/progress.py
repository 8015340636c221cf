"""Progress within an epoch, for those who show it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tick:
    """A batch of an epoch is computed: `done` of the epoch's `count` samples, and their values per sample so far."""

    epoch: int
    done: int
    count: int
    values: Mapping[str, Tensor]

    def loss(self) -> float:
        """The mean loss of the epoch's samples so far; on a GPU it waits for them, so ask only where it is shown."""
        return float(self.values["loss"][: self.done].mean())


OnStep = Callable[[Tick], None]


def unseen(tick: Tick) -> None:
    """Show nothing."""
