"""Elapsed time, never zero, so that it can be a divisor."""

import time

RESOLUTION = 1e-9  # seconds, of `time.perf_counter`


def elapsed(started: float) -> float:
    """Seconds since `started`, a value of `time.perf_counter`; above 0 even if the clock stood still or went back."""
    return max(time.perf_counter() - started, RESOLUTION)
