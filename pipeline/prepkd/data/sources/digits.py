"""scikit-learn's digits: 1,797 real 8 x 8 images that need no download."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prepkd.data.sources.raw import RawData
from prepkd.data.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """The digits bundled with scikit-learn."""

    name: str = "digits"
    shape: tuple[int, int, int] = (8, 8, 1)

    def read(self, raw: Path) -> RawData:
        """Read the digits as uint8 (N, 8, 8, 1); `raw` is not read.

        The data have no official split: within each class, even positions are train and odd ones test, so that both halves are
        balanced.
        """
        # Imported here: it costs more than a second, and no other source needs it.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.round(bunch.images[..., np.newaxis] * 255 / 16).astype(np.uint8)  # the file counts ink from 0 to 16
        labels = bunch.target.astype(np.int64)
        train = np.zeros(len(labels), dtype=bool)
        for label in range(10):
            train[np.flatnonzero(labels == label)[::2]] = True
        return RawData(
            dataset=self.name,
            train_images=images[train],
            train_labels=labels[train],
            test_images=images[~train],
            test_labels=labels[~train],
            class_names=tuple(str(digit) for digit in range(10)),
            source="scikit-learn load_digits: test set of UCI Optical Recognition of Handwritten Digits "
            "(Alpaydin and Kaynak, 1998), CC BY 4.0",
        )
