"""Reading the prepared HDF5 file."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.errors import InputError
from prepkd.files import array_fingerprint, fingerprint

FORMAT = "prepkd-data-1"
SPLITS = ("train", "val", "test")
_MEND = "run `prepkd prepare`"


@dataclass(frozen=True)
class Split:
    """One split: images uint8 (N, H, W, C), labels int64 (N,), and the fingerprint of both."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    fingerprint: str


@dataclass(frozen=True)
class DataInfo:
    """What a prepared file holds: image_shape (H, W, C), and each split's size and fingerprint."""

    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    splits: dict[str, int]
    fingerprint: str
    split_fingerprints: dict[str, str]


def split_fingerprint(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """The fingerprint of a split: of its images and labels."""
    return array_fingerprint({"images": images, "labels": labels})


def data_fingerprint(dataset: str, class_names: Sequence[str], splits: Mapping[str, str]) -> str:
    """The fingerprint of a prepared file: of its data set, class names and splits' fingerprints."""
    return fingerprint({"dataset": dataset, "class_names": list(class_names), "splits": dict(splits)})


def describe(path: Path) -> DataInfo:
    """What the file at `path` says of itself, the images unread; raises InputError if it is no prepared file."""
    with _opened(path) as file:
        return _info(path, file)


def load_split(path: Path, split: str) -> Split:
    """Read one split whole and check it: images uint8 (N, H, W, C), labels int64 (N,).

    Raises InputError if the file is missing or no prepared file, has no such split, or what was read differs from its
    fingerprint.
    """
    with _opened(path) as file:
        info = _info(path, file)
        if split not in info.splits:
            advice = f"set prepare.val_fraction and {_MEND}" if split == "val" else "name one of those"
            raise InputError(f"{path}: no split {split!r}, only {', '.join(info.splits)}; {advice}")
        images = np.asarray(file[split]["images"])
        labels = np.asarray(file[split]["labels"])
    _compare(path, f"{split}.fingerprint", info.split_fingerprints[split], split_fingerprint(images, labels))
    return Split(images, labels, info.split_fingerprints[split])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open for reading; whatever HDF5 stumbles over becomes an InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_MEND}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (AttributeError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a whole HDF5 file of prepared data: {reason}; {_MEND} again") from None


def _info(path: Path, file: h5py.File) -> DataInfo:
    found = _text(file.attrs["format"]) if "format" in file.attrs else "none"
    if found != FORMAT:
        raise InputError(f"{path}: expected format {FORMAT}, found {found}; {_MEND} again, or use a newer prepkd")
    names = [name for name in SPLITS if name in file]
    info = DataInfo(
        dataset=_text(file.attrs["dataset"]),
        class_names=tuple(_text(name) for name in file.attrs["class_names"]),
        image_shape=file["train"]["images"].shape[1:],
        splits={name: len(file[name]["labels"]) for name in names},
        fingerprint=_text(file.attrs["fingerprint"]),
        split_fingerprints={name: _text(file[name].attrs["fingerprint"]) for name in names},
    )
    whole = data_fingerprint(info.dataset, info.class_names, info.split_fingerprints)
    _compare(path, "fingerprint", info.fingerprint, whole)
    return info


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _compare(path: Path, field: str, expected: str, found: str) -> None:
    if expected != found:
        raise InputError(
            f"{path}: {field}: recorded {expected[:12]}, but the content has {found[:12]}; the file was changed or is damaged; "
            f"{_MEND} again"
        )
