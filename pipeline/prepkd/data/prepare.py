"""From raw data to the prepared HDF5 file."""

import io
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.data.file import FORMAT, data_fingerprint, split_fingerprint
from prepkd.data.raw import RawData
from prepkd.errors import InputError
from prepkd.files import replacing
from prepkd.views import raw_words

# Philox streams: one of these plus the class. They lie far from the views' own, which count up from 0 and down from 2^64.
VAL_STREAM = 1 << 62
SUBSET_STREAMS = {"train": 2 << 62, "test": 3 << 62}


def prepare(data: RawData, *, val_fraction: float, subset: int | None, seed: int, path: Path) -> dict[str, object]:
    """Write the prepared file and return its summary (JSON-able): dataset, classes, image_shape, splits, fingerprint.

    `subset` images of each class are kept (in test, as many as there are), then round(n * val_fraction) of each class's n
    training images move to `val`. Which ones depends on (seed, class, n) only, and they keep their order; smaller
    subsets lie within larger ones. Equal arguments give equal bytes. Raises InputError if a class has fewer than `subset`
    training images or would be left without training or validation images; then `path` is as before.
    """
    if not 0 <= val_fraction < 1:
        raise InputError(f"prepare.val_fraction is {val_fraction:g}; expected 0 <= val_fraction < 1")
    if subset is not None and subset < 1:
        raise InputError(f"prepare.subset is {subset}; expected at least 1 image a class, or null for all")
    train = np.arange(len(data.train_labels))
    test = np.arange(len(data.test_labels))
    if subset is not None:
        _refuse_small_classes(data, subset)
        train = _subset(data.train_labels, len(data.class_names), subset, seed, SUBSET_STREAMS["train"])
        test = _subset(data.test_labels, len(data.class_names), subset, seed, SUBSET_STREAMS["test"])
    splits: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    if val_fraction > 0:
        val = _carve(train, data, val_fraction, seed)
        train = np.setdiff1d(train, val)
        splits["val"] = data.train_images[val], data.train_labels[val]
    splits["train"] = data.train_images[train], data.train_labels[train]
    splits["test"] = data.test_images[test], data.test_labels[test]

    fingerprints = {name: split_fingerprint(images, labels) for name, (images, labels) in splits.items()}
    whole = data_fingerprint(data.dataset, data.class_names, fingerprints)
    # In memory first: where a disk is full, HDF5 writing to it does not fail but crash.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        # UTF-8 of fixed length: variable-length strings live in HDF5's global heap, where a damaged byte can hang it.
        file.attrs["format"] = np.bytes_(FORMAT.encode())
        file.attrs["dataset"] = np.bytes_(data.dataset.encode())
        file.attrs["class_names"] = np.array([name.encode() for name in data.class_names])
        file.attrs["source"] = np.bytes_(data.source.encode())
        file.attrs["fingerprint"] = np.bytes_(whole.encode())
        for name in sorted(splits):
            images, labels = splits[name]
            group = file.create_group(name)
            group.attrs["fingerprint"] = np.bytes_(fingerprints[name].encode())
            # No times: the bytes depend on the data alone.
            group.create_dataset("images", data=images, dtype="u1", track_times=False)
            group.create_dataset("labels", data=labels, dtype="<i8", track_times=False)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return {
        "dataset": data.dataset,
        "classes": len(data.class_names),
        "image_shape": list(data.train_images.shape[1:]),
        "splits": {name: len(splits[name][1]) for name in sorted(splits)},
        "fingerprint": whole,
    }


def _first(indices: NDArray[np.intp], count: int, seed: int, stream: int) -> NDArray[np.intp]:
    """The `count` of `indices` that come first in the stream's order."""
    return indices[np.argsort(raw_words(seed, stream, 0, len(indices)), kind="stable")[:count]]


def _subset(labels: NDArray[np.int64], classes: int, subset: int, seed: int, stream: int) -> NDArray[np.intp]:
    parts = [_first(np.flatnonzero(labels == label), subset, seed, stream + label) for label in range(classes)]
    return np.sort(np.concatenate(parts))


def _refuse_small_classes(data: RawData, subset: int) -> None:
    counts = np.bincount(data.train_labels, minlength=len(data.class_names))
    smallest = int(counts.argmin())
    if counts[smallest] < subset:
        raise InputError(
            f"prepare.subset is {subset}: class {data.class_names[smallest]!r} has {counts[smallest]} training images; "
            f"expected subset <= {counts[smallest]}"
        )


def _carve(train: NDArray[np.intp], data: RawData, val_fraction: float, seed: int) -> NDArray[np.intp]:
    parts = []
    for label, name in enumerate(data.class_names):
        indices = train[data.train_labels[train] == label]
        count = round(len(indices) * val_fraction)
        if not 0 < count < len(indices):
            raise InputError(
                f"prepare.val_fraction is {val_fraction:g}: class {name!r} would have {len(indices) - count} images in train "
                f"and {count} in val; expected at least 1 in each"
            )
        parts.append(_first(indices, count, seed, VAL_STREAM + label))
    return np.sort(np.concatenate(parts))
