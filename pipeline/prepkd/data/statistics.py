"""Mean and standard deviation of each channel, from exact sums of pixel values."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prepkd.errors import InputError

if TYPE_CHECKING:
    from prepkd.data.encoded import EncodedImages


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel of pixels in [0, 1], to six decimals."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_sums(cls, count: int, sums: Iterable[int], squares: Iterable[int]) -> "Statistics":
        """From the sums of each channel's `count` values, 0 to 255, and of their squares."""
        # Integers: the statistics don't depend on the order of summation.
        moments = [(int(one), int(square)) for one, square in zip(sums, squares, strict=True)]
        means = [one / (255 * count) for one, _ in moments]
        stds = [sqrt((count * square - one**2) / (255 * count) ** 2) for one, square in moments]
        return cls(tuple(round(m, 6) for m in means), tuple(round(s, 6) for s in stds))

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> "Statistics":
        """From how often each channel has each value: counts (C, 256)."""
        values = np.arange(256)
        return cls.of_sums(int(counts[0].sum()), (counts @ values).tolist(), (counts @ values**2).tolist())


def channel_statistics(images: "NDArray[np.uint8] | EncodedImages") -> Statistics:
    """The statistics of images (N, H, W, C); of encoded images those that `prepare` wrote.

    Raises InputError where there are no pixels, and for a selection of encoded images, which has none.
    """
    if isinstance(images, np.ndarray):
        if not images.size:
            raise InputError(f"images of shape {images.shape}: no pixels; expected at least one; run `prepkd prepare`")
        planes = images.reshape(len(images), -1, images.shape[-1])
        # Two calls in all, without the interpreter's lock: meanwhile the main thread imports torch.
        exact = np.uint32 if planes.shape[1] * 255**2 < 2**32 else np.uint64
        sums = planes.sum(axis=1, dtype=exact).sum(axis=0, dtype=np.uint64)
        squares = np.einsum("npc,npc->nc", planes, planes, dtype=exact).sum(axis=0, dtype=np.uint64)
        return Statistics.of_sums(len(planes) * planes.shape[1], sums.tolist(), squares.tolist())
    if images.statistics is None:
        raise InputError(
            "a selection of encoded images has no statistics; expected the training split as it was loaded"
        )
    return images.statistics
