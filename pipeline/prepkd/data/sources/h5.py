"""Users' own arrays in an HDF5 file."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.data.sources.names import name_difference, nfc_name
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.source import Source
from prepkd.errors import InputError
from prepkd.runtime.hdf5 import opened, variable_length_strings

SPLITS = ("train", "test", "val")
ARRAYS = ("images", "labels")
_EXPECTED = "train/images, train/labels, test/images, test/labels; optional val/images, val/labels, class_names"
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class H5(Source):
    """Arrays in an HDF5 file."""

    name: str = "h5"
    place: str = "images.h5"
    own: str = "an HDF5 file"

    def read(self, raw: Path) -> RawData:
        """Read train/images, uint8 (N, H, W, C) or (N, H, W), and train/labels, integers (N,); test; optional val, class_names.

        C is 1 or 3. Labels count from 0; each class has training images. Nothing is cast, scaled or left out. Raises InputError
        naming the array that is missing or malformed, and the position in it.
        """
        if not raw.is_file():
            found = "a folder" if raw.is_dir() else "no such file"
            raise InputError(f"{raw}: {found}; expected an HDF5 file with {_EXPECTED}; set prepare.raw to it")
        with raw.open("rb"):  # raises OSError for a file that cannot be read, of which h5py says False
            if not h5py.is_hdf5(raw):
                raise InputError(f"{raw}: no HDF5 file; expected one with {_EXPECTED}; convert it")
        # With HDF5's lock: a half-written file could read as whole.
        with opened(raw, expected="a whole HDF5 file", remedy="write it again") as file:
            return _read(raw, file)


def _read(raw: Path, file: h5py.File) -> RawData:
    allowed = {"class_names", *SPLITS, *(f"{split}/{name}" for split in SPLITS for name in ARRAYS)}
    names = list(file)
    file.visit(names.append)
    # HDF5's walk visits an object with two names only once, and does not follow other links.
    groups = [name for name in SPLITS if isinstance(file.get(name), h5py.Group)]
    names += [f"{split}/{name}" for split in groups for name in file[split]]
    if unknown := sorted(set(names) - allowed):
        raise InputError(f"{raw}: {unknown[0]}: an unknown name; expected {_EXPECTED}; take it out or rename it")
    splits = {split: _split(raw, file, split) for split in SPLITS if split in file or split != "val"}
    for one, other in combinations(splits, 2):
        if file[f"{one}/images"] == file[f"{other}/images"]:  # h5py compares the objects that links lead to
            raise InputError(
                f"{raw}: {other}/images: is the same array as {one}/images; expected its own; take out the link"
            )
    shapes = {split: images.shape[1:] for split, (images, _) in splits.items()}
    for split, shape in shapes.items():
        if shape != shapes["train"]:
            raise InputError(
                f"{raw}: {split}/images: images of shape {shape}; expected {shapes['train']}, as those of train have"
            )
    class_names = _class_names(raw, file, splits["train"][1])
    for split, (_, labels) in splits.items():
        _refuse_labels(f"{raw}: {split}/labels", labels, len(class_names), every=split == "train")
    train, test, *val = splits.values()
    return RawData("h5", *train, *test, class_names, "arrays in an HDF5 file", val[0] if val else None)


def _split(raw: Path, file: h5py.File, split: str) -> Arrays:
    found = [file.get(f"{split}/{name}") for name in ARRAYS]
    for name, dataset in zip(ARRAYS, found, strict=True):
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{raw}: {split}/{name}: no such array; expected {_EXPECTED}")
    images, labels = found
    if images.dtype != np.uint8:
        raise InputError(
            f"{raw}: {split}/images: of type {images.dtype}; expected uint8, from 0 to 255; scale and round them"
        )
    shape = images.shape if len(images.shape) == 4 else (*images.shape, 1)
    if len(shape) != 4 or 0 in shape or shape[3] not in (1, 3):
        raise InputError(
            f"{raw}: {split}/images: of shape {images.shape}; expected (N, H, W) or (N, H, W, C), C being 1 or 3"
        )
    if labels.dtype.kind not in "iu" or labels.shape != shape[:1]:
        raise InputError(
            f"{raw}: {split}/labels: {labels.dtype} of shape {labels.shape}; "
            f"expected integers of shape {shape[:1]}, one per image"
        )
    # Compared before the cast: 2^64 - 1 would become -1.
    values = np.asarray(labels)
    if values.max() > np.iinfo(np.int64).max:
        raise InputError(
            f"{raw}: {split}/labels: {values.max()} at {values.argmax()}; expected a class, counted from 0"
        )
    return np.asarray(images).reshape(shape), values.astype(np.int64)


def _refuse_labels(where: str, labels: NDArray[np.int64], classes: int, *, every: bool) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise InputError(
            f"{where}: {labels[outside[0]]} at {outside[0]}; expected 0 to {classes - 1}, the classes of train"
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if every and len(empty):
        raise InputError(
            f"{where}: no image of class {empty[0]}; expected at least one of each, from 0 to {classes - 1}"
        )


def _class_names(raw: Path, file: h5py.File, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """The class names in the file, else the class numbers as text."""
    largest = int(labels.max())
    if not 0 < largest < len(labels):
        raise InputError(
            f"{raw}: train/labels: the largest is {largest}, of {len(labels)} images; expected two classes or more, "
            "counted from 0, each with images"
        )
    classes = largest + 1
    if "class_names" not in file:
        return tuple(map(str, range(classes)))
    dataset = file["class_names"]
    kind = h5py.check_string_dtype(dataset.dtype) if isinstance(dataset, h5py.Dataset) else None
    if kind is None or dataset.ndim != 1:
        raise InputError(f"{raw}: class_names: expected an array of strings, one per class")
    texts = variable_length_strings(raw, "class_names") if kind.length is None else dataset[()].tolist()
    try:
        names = tuple(text.decode("utf-8") for text in texts)
    except UnicodeDecodeError as error:
        raise InputError(f"{raw}: class_names: {error.object!r} is not UTF-8; write them as UTF-8") from None
    if len(names) < classes or len(set(names)) < len(names) or not all(name.isprintable() and name for name in names):
        raise InputError(
            f"{raw}: class_names: {len(names)} names, {len(set(names))} different; expected {classes} different ones, none empty"
        )
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(nfc_name(name), name)) != name:
            raise InputError(
                f"{raw}: class_names: {name_difference(name, other)}; expected names that look different; rename it"
            )
    return names
