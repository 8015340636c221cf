"""Boxes of a random area and aspect ratio, from a view's fractions, by arithmetic with equal results on every machine.

Only +, -, *, / and square roots of float64, which IEEE 754 rounds correctly, and integers: no exponential, whose last bit
differs between machines. So boxes are drawn on the host, also for images on another device.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

# Fractions are fixed-point numbers of 15 bits: a store keeps them as int16, whose minimum stays free to mean "missing".
FRACTIONS = 2**15
BITS = FRACTIONS.bit_length() - 1
TRIES = 10
# A box that does not fit is tried again with other fractions: a full-period linear congruential step from the last one.
MULTIPLIER, INCREMENT = 20_077, 12_345


def _interval(least: float, most: float) -> Callable[[object], tuple[float, float]]:
    def parse(value: object) -> tuple[float, float]:
        if isinstance(value, list | tuple) and len(value) == 2 and all(type(x) in (int, float) for x in value):
            low, high = map(float, value)
            if least <= low <= high <= most:
                return low, high
        raise ValueError(f"[low, high] with {least:g} <= low <= high <= {most:g}")

    return parse


Scale = Annotated[tuple[float, float], BeforeValidator(_interval(0, 1))]
Ratio = Annotated[tuple[float, float], BeforeValidator(_interval(0.001, 1000))]


def draw_boxes(
    fractions: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    smallest: int,
    margin: int,
) -> NDArray[np.int64]:
    """Boxes (B, 4): top, left, height, width, of a share `scale` of the area and of width / height in `ratio`.

    `fractions` are (B, 4): area, logarithm of the ratio, top, left, each in [0, 2^15); `heights` and `widths` (B,) are the
    images'. A box fits if no side is below `smallest` or above the image's minus `margin`; if none of ten tries fits, the
    box is empty. The distribution is that of torchvision's `RandomResizedCrop` and `RandomErasing`, which draw up to ten
    times (Szegedy et al., "Going deeper with convolutions", 2014; Zhong et al., arXiv 1708.04896).
    """
    area, shape, top, left = fractions.T
    height, width = np.zeros_like(heights), np.zeros_like(widths)
    missing = np.ones(len(heights), dtype=bool)
    for _ in range(TRIES):
        pixels = heights * widths * (scale[0] + (scale[1] - scale[0]) * ((area + 0.5) / FRACTIONS))
        aspect = log_spaced(*ratio)[shape]
        wide = np.rint(np.sqrt(pixels * aspect)).astype(np.int64)
        high = np.rint(np.sqrt(pixels / aspect)).astype(np.int64)
        fits = (np.minimum(high, wide) >= smallest) & (high <= heights - margin) & (wide <= widths - margin)
        height, width = np.where(missing & fits, high, height), np.where(missing & fits, wide, width)
        missing &= ~fits
        if not missing.any():
            break
        area, shape = ((x * MULTIPLIER + INCREMENT) % FRACTIONS for x in (area, shape))
    places = ((top * (heights - height + 1)) >> BITS, (left * (widths - width + 1)) >> BITS)
    return np.stack([*places, height, width], axis=1)


@lru_cache(maxsize=16)
def log_spaced(low: float, high: float) -> NDArray[np.float64]:
    """The middles of 2^15 equal steps from low to high on a logarithmic scale, float64, ascending: by square roots alone."""
    values, factor = np.array([low]), high / low
    for _ in range(BITS):  # a step's bits, the highest first: each halves the rest of the scale
        factor = np.sqrt(factor)
        values = np.stack([values, values * factor], axis=1).ravel()
    values *= np.sqrt(factor)
    values.flags.writeable = False
    return values
