"""Progress within an epoch, for display."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Progress after a batch: `done` of the epoch's `count` samples, and the per-sample values so far."""

    epoch: int
    done: int
    count: int
    values: Mapping[str, Tensor]

    def loss(self) -> float:
        """Return the mean loss of the epoch so far; on a GPU this synchronises, so call it only to display the loss."""
        return float(self.values["loss"][: self.done].mean())


OnStep = Callable[[BatchProgress], None]


def ignore_progress(tick: BatchProgress) -> None:
    """Show nothing."""
