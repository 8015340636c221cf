"""Channel statistics of a split: exact sums of pixel values."""

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.statistics import Statistics
from prepkd.errors import InputError


def channel_statistics(images: NDArray[np.uint8] | EncodedImages) -> Statistics:
    """The statistics of images (N, H, W, C); for encoded images, those written by `prepare`.

    Raises InputError if there are no pixels, and for a selection of encoded images, which has no statistics.
    """
    if isinstance(images, np.ndarray):
        if not images.size:
            raise InputError(f"images of shape {images.shape}: no pixels; expected at least one; run `prepkd prepare`")
        planes = images.reshape(len(images), -1, images.shape[-1])
        # Only two calls, which release the GIL, so that other threads can read the other splits meanwhile.
        exact = np.uint32 if planes.shape[1] * 255**2 < 2**32 else np.uint64
        sums = planes.sum(axis=1, dtype=exact).sum(axis=0, dtype=np.uint64)
        squares = np.einsum("npc,npc->nc", planes, planes, dtype=exact).sum(axis=0, dtype=np.uint64)
        return Statistics.of_sums(len(planes) * planes.shape[1], sums.tolist(), squares.tolist())
    if images.statistics is None:
        raise InputError(
            "a selection of encoded images has no statistics; expected the training split as it was loaded"
        )
    return images.statistics
