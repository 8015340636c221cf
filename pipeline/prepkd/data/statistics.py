"""Mean and standard deviation of each channel, from exact counts of pixel values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel of pixels in [0, 1], to six decimals."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "Statistics":
        """From how often each channel has each value: counts (C, 256)."""
        # Sums of integers are exact, so the statistics don't depend on the order of summation.
        values = np.arange(256) / 255
        total = int(counts[0].sum())
        means = [float(n @ values / total) for n in counts]
        stds = [float(np.sqrt(n @ (values - mean) ** 2 / total)) for n, mean in zip(counts, means, strict=True)]
        return cls(tuple(round(m, 6) for m in means), tuple(round(s, 6) for s in stds))


PIXELS = 2**16  # counted at once: bincount makes int64 of them, which should stay in the cache


def pixel_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each channel of images (..., C) has each value: int64 (C, 256)."""
    pixels = images.reshape(-1, images.shape[-1])
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for start in range(0, len(pixels), PIXELS):
        for channel, values in enumerate(pixels[start : start + PIXELS].T):
            counts[channel] += np.bincount(values, minlength=256)
    return counts
