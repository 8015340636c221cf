"""What every source returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawData:
    """A data set as its authors split it: images uint8 (N, H, W, C), labels int64 (N,) that index `class_names`.

    `source` is one line: where the data comes from, whom to cite, its licence.
    """

    dataset: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str
