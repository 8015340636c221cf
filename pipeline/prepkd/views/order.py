"""The views of an epoch and the order of its samples: functions of the run's seed and the epoch alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prepkd.runtime.streams import Purpose, bounded_integers, random_order, raw_words

Views = int | NDArray[np.int64]  # one view for all samples, or one per sample


def sample_order(seed: int, epoch: int, samples: int, purpose: Purpose = Purpose.STUDENT_ORDER) -> NDArray[np.int64]:
    """The order of an epoch's samples, by default a student's: a permutation, int64 (samples,)."""
    return random_order(seed, purpose.stream(epoch), samples)


def cycle(seed: int, epoch: int, views: int, samples: int) -> int:
    """The one view of an epoch: (epoch + r) mod V, with r drawn from the seed."""
    return (epoch + int(bounded_integers(raw_words(seed, Purpose.CYCLE_START.stream(), 0, 1), views)[0])) % views


def random(seed: int, epoch: int, views: int, samples: int) -> NDArray[np.int64]:
    """One view per sample, int64 (samples,), drawn independently for each sample and epoch."""
    return bounded_integers(raw_words(seed, Purpose.RANDOM_VIEWS.stream(epoch), 0, samples), views)


@dataclass(frozen=True)
class ViewOrder:
    """The views that epochs show: a function of (seed, epoch, views, samples) to one view, or to one per sample."""

    views_of: Callable[[int, int, int, int], Views]
    per_sample: bool  # needs every view in memory: a resident store

    def shown(self, seeds: Iterable[int], epochs: int, views: int) -> set[int]:
        """All views that the runs of these seeds show."""
        if self.per_sample:
            return set(range(views))
        return {int(self.views_of(seed, epoch, views, 0)) for seed in seeds for epoch in range(epochs)}

    def first(self, seed: int, views: int) -> int:
        """The view of a seed's first epoch; 0 if samples have views of their own."""
        return 0 if self.per_sample else int(self.views_of(seed, 0, views, 0))


VIEW_ORDERS = {"cycle": ViewOrder(cycle, per_sample=False), "random": ViewOrder(random, per_sample=True)}
