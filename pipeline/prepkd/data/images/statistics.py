"""Mean and standard deviation of each channel, from exact sums of pixel values."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel of pixels in [0, 1], to six decimals."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_sums(cls, count: int, sums: Iterable[int], squares: Iterable[int]) -> "Statistics":
        """Compute from the sums of each channel's `count` values, 0 to 255, and of their squares."""
        # Integers, so that the order of summation does not matter.
        moments = [(int(one), int(square)) for one, square in zip(sums, squares, strict=True)]
        means = [one / (255 * count) for one, _ in moments]
        stds = [sqrt((count * square - one**2) / (255 * count) ** 2) for one, square in moments]
        return cls(tuple(round(m, 6) for m in means), tuple(round(s, 6) for s in stds))

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> "Statistics":
        """Compute from the counts of each channel's values, (C, 256)."""
        values = np.arange(256)
        return cls.of_sums(int(counts[0].sum()), (counts @ values).tolist(), (counts @ values**2).tolist())
