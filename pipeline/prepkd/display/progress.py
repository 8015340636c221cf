"""Pace, speed and remaining time of work whose progress is shown."""

import time
from collections.abc import Callable

MIN_SECONDS = 3.0  # seconds without a rate: the first steps include loading and compiling
WINDOW = 30.0  # seconds; a rate covers the last one or two windows


class Pace:
    """At most one line per `seconds`, the first one after that time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.last = clock()

    def due(self) -> bool:
        """Whether the next line is due; it then counts as shown."""
        now = self.clock()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True

    def shown(self) -> None:
        """Record that a line was shown for another reason."""
        self.last = self.clock()


class Speed:
    """Units per second over the last minute, and the seconds left; units done before the first call of `at` do not count."""

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.first: tuple[float, float] | None = None  # time and units at the beginning of the window before
        self.next = (0.0, 0.0)  # and of this one

    def at(self, done: float) -> tuple[float, float] | None:
        """The rate, and the seconds left at this rate, when `done` units are done; None until a rate is known."""
        now = self.clock()
        if self.first is None:
            self.first = self.next = now, done
            return None
        if now - self.next[0] > WINDOW:
            self.first, self.next = self.next, (now, done)
        began, before = self.first
        if now < began + MIN_SECONDS or done <= before:
            return None
        rate = (done - before) / (now - began)
        return rate, max(0.0, self.total - done) / rate
