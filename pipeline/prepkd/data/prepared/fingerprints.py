"""Fingerprints of splits and of the whole prepared file."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.statistics import Statistics
from prepkd.runtime.files import array_fingerprint, canonical_json, fingerprint


def split_fingerprint(images: NDArray[np.uint8] | EncodedImages, labels: NDArray[np.int64]) -> str:
    """The fingerprint of a split's images and labels."""
    if isinstance(images, EncodedImages):
        return encoded_fingerprint(map(images.file, range(len(images))), labels)
    return array_fingerprint({"images": images, "labels": labels})


def data_fingerprint(
    dataset: str, class_names: Sequence[str], splits: Mapping[str, str], statistics: Statistics | None = None
) -> str:
    """The fingerprint of a prepared file: dataset, class names, splits' fingerprints and, for encoded images, statistics."""
    content = {"dataset": dataset, "class_names": list(class_names), "splits": dict(splits)}
    if statistics is not None:  # those of arrays follow from their pixels
        content["statistics"] = {"mean": list(statistics.mean), "std": list(statistics.std)}
    return fingerprint(content)


def encoded_fingerprint(files: Iterable[bytes | memoryview], labels: NDArray[np.int64]) -> str:
    """Hash files and labels one file at a time.

    Equal to `array_fingerprint` of {"images": an object array of the files' bytes, "labels": labels}.
    """
    measured = (part for file in files for part in (len(file).to_bytes(8, "little"), file))
    return streamed_fingerprint(np.dtype(object), (len(labels),), measured, labels)


def streamed_fingerprint(
    dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[bytes | memoryview], labels: NDArray[np.int64]
) -> str:
    """Hash an array of images, from its parts in turn, and labels.

    Equal to `array_fingerprint` of {"images": an array of this type and shape, "labels": labels}.
    """
    digest = sha256(canonical_json(["images", dtype.str, list(shape)]).encode())
    for part in parts:
        digest.update(part)
    digest.update(canonical_json(["labels", "<i8", [len(labels)]]).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()
