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
        return encoded_fingerprint(map(images.file, range(len(images))), labels, images.orientations)
    return array_fingerprint({"images": images, "labels": labels})


def data_fingerprint(
    dataset: str, class_names: Sequence[str], splits: Mapping[str, str], statistics: Statistics | None = None
) -> str:
    """The fingerprint of a prepared file: dataset, class names, splits' fingerprints and, for encoded images, statistics."""
    content = {"dataset": dataset, "class_names": list(class_names), "splits": dict(splits)}
    if statistics is not None:  # those of arrays follow from their pixels
        content["statistics"] = {"mean": list(statistics.mean), "std": list(statistics.std)}
    return fingerprint(content)


def encoded_fingerprint(
    files: Iterable[bytes | memoryview], labels: NDArray[np.int64], orientations: NDArray[np.uint8] | None
) -> str:
    """Hash files, labels and EXIF orientations, one file at a time.

    Equal to `array_fingerprint` of {"images": an object array of the files' bytes, "labels": labels, "orientations": ...},
    without the last if no image is turned. The orientations are read after the last file.
    """
    measured = (part for file in files for part in (len(file).to_bytes(8, "little"), file))
    return streamed_fingerprint(np.dtype(object), (len(labels),), measured, labels, orientations)


def streamed_fingerprint(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    parts: Iterable[bytes | memoryview],
    labels: NDArray[np.int64],
    orientations: NDArray[np.uint8] | None = None,
) -> str:
    """Hash an array of images from its consecutive parts, labels and, if an image is turned, orientations uint8 (N,).

    Equal to `array_fingerprint` of {"images": an array of this type and shape, "labels": labels, "orientations": ...}.
    """
    digest = sha256(canonical_json(["images", dtype.str, list(shape)]).encode())
    for part in parts:
        digest.update(part)
    digest.update(canonical_json(["labels", "<i8", [len(labels)]]).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    if orientations is not None and (orientations != 1).any():
        digest.update(canonical_json(["orientations", "|u1", [len(orientations)]]).encode())
        digest.update(np.ascontiguousarray(orientations).data)
    return digest.hexdigest()
