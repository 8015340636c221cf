"""Progress: pace of lines, speed, time left, and text that fits."""

import pytest
from prepkd.display.progress import Pace, Speed
from prepkd.display.text import clock, fitting_parts


class Clock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_is_due_after_the_interval_and_then_counts_as_shown() -> None:
    at = Clock()
    pace = Pace(30, at)
    assert not pace.due()
    at.now += 29.9
    assert not pace.due()
    at.now += 0.1
    assert pace.due() and not pace.due()
    at.now += 20
    pace.shown()  # a line shown for another reason restarts the interval
    at.now += 20
    assert not pace.due()


def test_what_was_there_before_takes_no_time() -> None:
    """In a resumed run, the 90 of 100 done before the clock starts don't count in the speed."""
    at = Clock()
    speed = Speed(100, at)
    assert speed.at(90) is None
    assert speed.at(90) is None, "no rate without progress"
    at.now += 4
    assert speed.at(92) == (pytest.approx(0.5), pytest.approx(16))
    at.now += 16
    assert speed.at(100) == (pytest.approx(0.5), 0)


def test_the_rate_is_that_of_the_last_minute_and_none_is_known_at_first() -> None:
    """The slow first steps drop out of the rate, and no rate is given in the first seconds."""
    at = Clock()
    speed = Speed(1000, at)
    speed.at(0)
    at.now += 2.9
    assert speed.at(1) is None
    done = 1
    for _ in range(20):
        at.now += 10
        done += 40
        found = speed.at(done)
    assert found == (pytest.approx(4), pytest.approx((1000 - done) / 4))


def test_a_clock_that_goes_back_gives_no_rate() -> None:
    at = Clock()
    speed = Speed(10, at)
    speed.at(0)
    at.now -= 1
    assert speed.at(5) is None


def test_text_fits_the_width_but_is_never_empty() -> None:
    parts = ["3/30", "0:42 left", "loss 1.234"]
    assert fitting_parts(parts, 100) == "3/30, 0:42 left, loss 1.234"
    assert fitting_parts(parts, 26) == "3/30, 0:42 left"
    assert fitting_parts(parts, 27) == "3/30, 0:42 left, loss 1.234"
    assert fitting_parts(parts, 1) == "3/30" and fitting_parts([], 10) == ""
    assert [clock(s) for s in (0, 59.9, 60, 3599, 3600, 90061)] == [
        "0:00",
        "0:59",
        "1:00",
        "59:59",
        "1:00:00",
        "25:01:01",
    ]
