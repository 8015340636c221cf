"""Raw data, the common result of all sources."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.files import ImageFiles

# Pixels uint8 (N, H, W, C), or files on disk; labels int64 (N,).
Images = NDArray[np.uint8] | ImageFiles
LabelledFiles = tuple[ImageFiles, NDArray[np.int64]]
Labelled = tuple[Images, NDArray[np.int64]]


@dataclass(frozen=True)
class RawData:
    """A dataset as its authors split it: images uint8 (N, H, W, C) or files, labels int64 (N,) that index `class_names`.

    `source` is one line: origin, citation, licence. Few datasets have their own `val`. `notes` are lines for the user on skipped
    files and unusual properties.
    """

    dataset: str
    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str
    val: Labelled | None = None
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Labelled]:
        """Images and labels of train, test and, if the dataset has one, val."""
        splits = {"train": (self.train_images, self.train_labels), "test": (self.test_images, self.test_labels)}
        return splits if self.val is None else {**splits, "val": self.val}
