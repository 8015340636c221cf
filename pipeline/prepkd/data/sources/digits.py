"""scikit-learn's digits: 1,797 real 8 x 8 images that need no download."""

import numpy as np

from prepkd.data.sources.raw import RawData


def read_digits() -> RawData:
    """The digits as uint8 (N, 8, 8, 1), the samples at even positions of each class train, the others test.

    The file has no split of its own; alternating within a class keeps both halves balanced.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images[..., np.newaxis] * 255 / 16).astype(np.uint8)  # the file counts ink from 0 to 16
    labels = bunch.target.astype(np.int64)
    train = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        train[np.flatnonzero(labels == label)[::2]] = True
    return RawData(
        dataset="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[~train],
        test_labels=labels[~train],
        class_names=tuple(str(digit) for digit in range(10)),
        source="scikit-learn load_digits: test set of UCI Optical Recognition of Handwritten Digits "
        "(Alpaydin and Kaynak, 1998), CC BY 4.0",
    )
