"""Differences between runs, paired by seed: t interval, t test, and Holm's correction for several tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TypeVar

from scipy.special import stdtr, stdtrit

Key = TypeVar("Key")

ALPHA = 0.05  # a difference with a corrected p below it is significant
LEVEL = 1 - ALPHA  # confidence level of the intervals
ROUNDING = 1e-6  # relative to the largest value: accuracies come from float32


@dataclass(frozen=True)
class Difference:
    """The mean of n paired differences, half the width of its t interval, and the two-sided p of the paired t test.

    `half_width` and `p` are None if the differences have no spread: a single one, or all equal.
    """

    mean: float
    n: int
    half_width: float | None = None
    p: float | None = None


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The difference of two runs, from their values per seed in the same order; raises ValueError for different lengths.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.

    >>> found = paired_difference([5.0, 6.0, 7.0], [4.0, 4.0, 4.0])
    >>> found.mean, round(found.half_width, 3), round(found.p, 3)
    (2.0, 2.484, 0.074)
    """
    differences = [a - b for a, b in zip(values, baseline, strict=True)]
    mean, n = fmean(differences), len(differences)
    largest = max(abs(value) for value in (*values, *baseline))
    if max(differences) - min(differences) <= ROUNDING * largest:
        return Difference(mean, n)
    error = stdev(differences) / n**0.5
    half_width = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return Difference(mean, n, half_width, 2 * float(stdtr(n - 1, -abs(mean) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct m p values, returned in their order: the one of rank i (from 0) times m - i, at least the previous one, at most 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    corrected, before = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        before = max(before, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = before
    return corrected


def corrected(differences: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """Apply Holm's correction to the p values of differences that are tested together; those without a p do not count."""
    tests = {key: one.p for key, one in differences.items() if one.p is not None}
    found = dict(zip(tests, holm(list(tests.values())), strict=True))
    return {key: replace(one, p=found.get(key)) for key, one in differences.items()}


def difference_text(difference: Difference, note: str = "") -> str:
    """Format a difference for tables, with its corrected p, bold if significant.

    >>> difference_text(Difference(0.98, 5, 0.83, 0.246)), difference_text(Difference(0.5, 1))
    ('+0.98 +- 0.83 (p 0.246)', '+0.50 (no interval)')
    >>> difference_text(Difference(-6.11, 3, 1.2, 0.0004), "3 of 5 seeds"), difference_text(Difference(-1e-6, 5, 0.8, 1.0))
    ('**-6.11 +- 1.20 (p < 0.001, 3 of 5 seeds)**', '+0.00 +- 0.80 (p 1.000)')
    """
    mean, half_width, p = round(difference.mean, 2) + 0.0, difference.half_width, difference.p  # no negative zero
    if half_width is None or p is None:
        return f"{mean:+.2f} ({', '.join(filter(None, ['no interval', note]))})"
    notes = ["p < 0.001" if p < 0.001 else f"p {p:.3f}", note]
    text = f"{mean:+.2f} +- {half_width:.2f} ({', '.join(filter(None, notes))})"
    return f"**{text}**" if p < ALPHA else text
