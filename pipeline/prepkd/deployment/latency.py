"""Measure the time per call of several models in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WARM_UP, MIN_CALLS, MAX_CALLS = 5, 15, 200  # calls
BUDGET = 1.0  # seconds per model and batch


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call: the median, and the interval that holds the middle 90 % of `calls`."""

    median_ms: float
    low_ms: float
    high_ms: float
    calls: int


def latencies(calls: Mapping[str, Callable[[], object]], *, budget: float = BUDGET) -> dict[str, Latency]:
    """Time the calls in turns, so that a busy moment of the machine affects all of them; warm-up calls are not counted."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    while any(len(spent) < MAX_CALLS and (sum(spent) < budget or len(spent) < MIN_CALLS) for spent in times.values()):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: summary(spent) for name, spent in times.items()}


def summary(seconds: list[float]) -> Latency:
    """Median and the 5 % and 95 % quantiles of at least two times.

    >>> summary([0.001, 0.002, 0.003]).median_ms
    2.0
    """
    low, *_, high = statistics.quantiles(seconds, n=20, method="inclusive")
    return Latency(1e3 * statistics.median(seconds), 1e3 * low, 1e3 * high, len(seconds))
