"""The views of an epoch and the order of its samples: functions of the run's seed and the epoch alone."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prepkd.runtime.streams import below, raw_words

Views = int | NDArray[np.int64]  # one view for all samples, or one per sample

# Streams of a run's seed, distinct from those of plans (0 up to 2^31, and the last one).
SAMPLE_ORDER_STREAM = 2**62
RANDOM_VIEW_STREAM = 2**63
ROTATION_STREAM = 2**64 - 2


def sample_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """The order of an epoch's samples: a permutation, int64 (samples,)."""
    return np.argsort(raw_words(seed, SAMPLE_ORDER_STREAM + epoch, 0, samples), kind="stable")


def cycle(seed: int, epoch: int, views: int, samples: int) -> int:
    """The one view of an epoch: (epoch + r) mod V, with r drawn from the seed."""
    return (epoch + int(below(raw_words(seed, ROTATION_STREAM, 0, 1), views)[0])) % views


def random(seed: int, epoch: int, views: int, samples: int) -> NDArray[np.int64]:
    """One view per sample, int64 (samples,), drawn independently for each sample and epoch."""
    return below(raw_words(seed, RANDOM_VIEW_STREAM + epoch, 0, samples), views)


# Functions of (seed, epoch, views, samples): one view, or one per sample.
VIEW_ORDERS: dict[str, Callable[[int, int, int, int], Any]] = {"cycle": cycle, "random": random}


def shown_views(order: str, seeds: Iterable[int], epochs: int, views: int) -> set[int]:
    """All views in the epochs of these seeds' runs under a view order, a key of `VIEW_ORDERS`."""
    if order == "random":
        return set(range(views))
    return {cycle(seed, epoch, views, 0) for seed in seeds for epoch in range(epochs)}
