"""Prepare raw data: choose each split's images and write the HDF5 file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.files import ImageFiles
from prepkd.data.prepared.write import write
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.runtime.streams import Purpose, random_order

SUBSETS = {"train": Purpose.SUBSET_OF_TRAIN, "val": Purpose.SUBSET_OF_VAL, "test": Purpose.SUBSET_OF_TEST}


def prepare(
    data: RawData, *, val_fraction: float, subset: int | None, seed: int, path: Path, replace: bool = False
) -> dict[str, Any]:
    """Write the prepared file and return its summary (JSON-able): dataset, classes, image_shape, splits, fingerprint, notes.

    `subset` images of each class are kept (outside train, at most that many), then round(n * val_fraction) of each class's n
    training images move to `val`. The choice depends on (seed, class, n) only, images keep their order, and smaller subsets are
    part of larger ones. Equal arguments give equal bytes. Raises InputError, and leaves `path` as it was, if a class has fewer
    than `subset` training images or would be left without training or validation images, if the source already has a val, if
    image files are damaged (naming them), or, without `replace`, if `path` holds other data.
    """
    if not 0 <= val_fraction < 1:
        raise InputError(f"prepare.val_fraction is {val_fraction:g}; expected 0 <= val_fraction < 1")
    if subset is not None and subset < 1:
        raise InputError(f"prepare.subset is {subset}; expected at least 1 image per class, or null for all")
    if val_fraction > 0 and data.val is not None:
        raise InputError(f"prepare.val_fraction is {val_fraction:g}: {data.dataset} has its own val; expected 0")
    kept = {name: np.arange(len(labels)) for name, (_, labels) in data.splits.items()}
    if subset is not None:
        _refuse_small_classes(data, subset)
        for name, (_, labels) in data.splits.items():
            kept[name] = _subset(labels, len(data.class_names), subset, seed, SUBSETS[name])
    if val_fraction > 0:
        val = _carve(kept["train"], data, val_fraction, seed)
        kept["train"] = np.setdiff1d(kept["train"], val)
    splits = {name: (images[kept[name]], labels[kept[name]]) for name, (images, labels) in data.splits.items()}
    if val_fraction > 0:
        splits["val"] = data.train_images[val], data.train_labels[val]
    written = write(data, splits, path, replace=replace)
    shape = data.train_images.shape
    return {
        "dataset": data.dataset,
        "classes": len(data.class_names),
        "image_shape": None if shape is None else list(shape[-3:]),
        "splits": {name: len(splits[name][1]) for name in sorted(splits)},
        "fingerprint": written.fingerprint,
        "notes": [*data.notes, *_rotated(data, written.rotated)],
    }


def _rotated(data: RawData, count: int) -> list[str]:
    """Describe how images with an EXIF orientation were treated."""
    if not count or not isinstance(data.train_images, ImageFiles):
        return []
    what = f"{count:,} image{'s have' if count > 1 else ' has'} an EXIF orientation"
    if data.train_images.upright:
        return [f"{what} and {'are' if count > 1 else 'is'} turned upright; prepare.upright: false keeps stored pixels"]
    return [f"{what} that is not applied: {'they are' if count > 1 else 'it is'} read as stored, sideways or mirrored"]


def _first(indices: NDArray[np.intp], count: int, seed: int, stream: int) -> NDArray[np.intp]:
    """The `count` of `indices` that come first in the stream's order."""
    return indices[random_order(seed, stream, len(indices))[:count]]


def _subset(labels: NDArray[np.int64], classes: int, subset: int, seed: int, purpose: Purpose) -> NDArray[np.intp]:
    parts = [_first(np.flatnonzero(labels == label), subset, seed, purpose.stream(label)) for label in range(classes)]
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
        parts.append(_first(indices, count, seed, Purpose.VAL.stream(label)))
    return np.sort(np.concatenate(parts))
