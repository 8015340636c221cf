"""Reading the prepared HDF5 file.

Images are either arrays, `<split>/images` uint8 (N, H, W, C), or the bytes of image files in sequence: `<split>/content` uint8
(total,), `<split>/offsets` int64 (N + 1,), `<split>/names` (N,), and for photographs that are shown upright their EXIF
orientations, `<split>/orientations` uint8 (N,). HDF5's variable-length type is not used: its global heap can
hang on a damaged byte, and every image would become an object.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.encoded import EncodedImages
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.fingerprints import data_fingerprint, split_fingerprint
from prepkd.errors import InputError
from prepkd.runtime.hdf5 import attribute, opened, values

FORMAT = "prepkd-data-1"
SPLITS = ("train", "val", "test")
_PREPARE = "run `prepkd prepare`"


@dataclass(frozen=True)
class Split:
    """One split: images uint8 (N, H, W, C) or encoded, labels int64 (N,), and the fingerprint of both."""

    images: NDArray[np.uint8] | EncodedImages
    labels: NDArray[np.int64]
    fingerprint: str


@dataclass(frozen=True)
class DataInfo:
    """Summary of a prepared file: image_shape (H, W, C), None if sizes differ; each split's size and fingerprint.

    `encoded`: images are kept as the bytes of their files; only then are the training images' `statistics` given.
    """

    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    splits: dict[str, int]
    fingerprint: str
    split_fingerprints: dict[str, str]
    encoded: bool = False
    statistics: Statistics | None = None


def describe(path: Path) -> DataInfo:
    """Read the summary of the file at `path`, without images; raises InputError if it is not a prepared file."""
    with _opened(path) as file:
        return _info(path, file)


def load_split(path: Path, split: str) -> Split:
    """Read and check one whole split: images uint8 (N, H, W, C), or encoded and mapped from the file; labels int64 (N,).

    In memory, channels come before height and width, as torch expects. Raises InputError if the file is missing or not a
    prepared file, lacks the split, or differs from the recorded fingerprint.
    """
    with _opened(path) as file:
        info = _info(path, file)
        if split not in info.splits:
            advice = f"set prepare.val_fraction and {_PREPARE}" if split == "val" else "name one of those"
            raise InputError(f"{path}: no split {split!r}, only {', '.join(info.splits)}; {advice}")
        images = _encoded(path, file[split], info, split) if info.encoded else values(file[split]["images"])
        labels = values(file[split]["labels"])
    _compare(path, f"{split}.fingerprint", info.split_fingerprints[split], split_fingerprint(images, labels))
    if not isinstance(images, EncodedImages):
        images = np.ascontiguousarray(np.moveaxis(images, 3, 1))  # in the thread that reads
        images = np.moveaxis(images, 1, 3)
    return Split(images, labels, info.split_fingerprints[split])


def _opened(path: Path) -> AbstractContextManager[h5py.File]:
    """Open for reading, without a lock: the file is replaced atomically. HDF5's errors become an InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_PREPARE}")
    return opened(path, expected="a whole HDF5 file of prepared data", remedy=f"{_PREPARE} again", locking=False)


def _info(path: Path, file: h5py.File) -> DataInfo:
    found = _text(attribute(file, "format")) if "format" in file.attrs else "none"
    if found != FORMAT:
        raise InputError(f"{path}: expected format {FORMAT}, found {found}; {_PREPARE} again, or use a newer prepkd")
    names = [name for name in SPLITS if name in file]
    encoded = "content" in file["train"]
    recorded = attribute(file, "image_shape") if "image_shape" in file.attrs else ()
    shape = tuple(map(int, recorded if encoded else file["train"]["images"].shape[1:]))
    statistics = Statistics(*(tuple(attribute(file, name).tolist()) for name in ("mean", "std"))) if encoded else None
    info = DataInfo(
        dataset=_text(attribute(file, "dataset")),
        class_names=tuple(_text(name) for name in _class_names(file)),
        image_shape=cast(tuple[int, int, int], shape) if shape else None,
        splits={name: len(file[name]["labels"]) for name in names},
        fingerprint=_text(attribute(file, "fingerprint")),
        split_fingerprints={name: _text(attribute(file[name], "fingerprint")) for name in names},
        encoded=encoded,
        statistics=statistics,
    )
    whole = data_fingerprint(info.dataset, info.class_names, info.split_fingerprints, statistics)
    _compare(path, "fingerprint", info.fingerprint, whole)
    return info


def _encoded(path: Path, group: h5py.Group, info: DataInfo, split: str) -> EncodedImages:
    offsets, names = values(group["offsets"]), values(group["names"])
    # Mapped, not read: data may be larger than memory, and the system may drop pages. HDF5 is bypassed: contiguous bytes have
    # one offset in the file.
    place, size = group["content"].id.get_offset(), group["content"].size
    if place is None or group["content"].dtype != np.uint8:
        raise ValueError(f"{group.name}/content is not one block of bytes")
    content = np.memmap(path, np.uint8, "r", place, (size,))
    if len(offsets) != len(names) + 1 or offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise ValueError(f"{group.name}/offsets don't fit the {size} bytes of {len(names)} images")
    orientations = values(group["orientations"]) if "orientations" in group else None
    if orientations is not None and (orientations.dtype, orientations.shape) != (np.dtype(np.uint8), names.shape):
        raise ValueError(f"{group.name}/orientations: {orientations.dtype} of shape {orientations.shape}")
    return EncodedImages(content, offsets, names, info.statistics if split == "train" else None, orientations)


def _class_names(file: h5py.File) -> Sequence[bytes]:
    """The class names, from the attribute, or from a dataset if they are too many for an attribute."""
    names = values(file["class_names"]) if "class_names" in file else attribute(file, "class_names")
    return cast(Sequence[bytes], names)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _compare(path: Path, field: str, expected: str, found: str) -> None:
    if expected != found:
        raise InputError(
            f"{path}: {field}: recorded {expected[:12]}, but the content has {found[:12]}; the file was changed or is damaged; "
            f"{_PREPARE} again"
        )
