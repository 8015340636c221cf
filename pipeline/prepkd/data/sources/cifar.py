"""CIFAR-10 and CIFAR-100 from the official Python files."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prepkd.data.sources.archive import Archive
from prepkd.data.sources.raw import RawData
from prepkd.data.sources.source import Source
from prepkd.data.sources.unpickle import unpickle
from prepkd.errors import InputError

SIDE, CHANNELS = 32, 3


@dataclass(frozen=True, kw_only=True)
class Cifar(Source):
    """The official files in the folder `place`, each as (name, md5), and the keys and number of their classes."""

    shape: tuple[int, int, int] = (32, 32, 3)
    archive: Archive
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]
    labels_key: str
    names_key: str
    classes: int
    citation: str

    def locate(self, raw: Path) -> Path:
        """The folder of the files: `raw` itself if it has the official name, else the folder of that name in it."""
        inner = raw / self.place
        return raw if raw.absolute().name == self.place and not inner.exists() else inner

    def is_complete(self, raw: Path) -> bool:
        """Whether every official file exists; raises InputError if another file or a folder has the name of one."""
        found = [(self.locate(raw) / name, md5) for name, md5 in (*self.train, *self.test, self.meta)]
        for path, md5 in found:
            if os.path.lexists(path) and not (path.is_file() and _md5(path.read_bytes()) == md5):
                raise InputError(
                    f"{path}: expected the official file (md5 {md5}), or nothing; move it away, then run again"
                )
        return all(path.is_file() for path, _ in found)

    def download(self, raw: Path) -> None:
        """Fetch the official files that are missing from the folder of `locate`; raises InputError."""
        if self.is_complete(raw):
            return
        folder = self.locate(raw)
        # Unpacked beside the folder, so that no file is incomplete and none of the user's files is replaced.
        unpacked = folder.with_name(f".{self.place}.partial")
        self.archive.unpack(unpacked, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for path in (unpacked / self.place).iterdir():
            if not os.path.lexists(folder / path.name):
                path.rename(folder / path.name)
        shutil.rmtree(unpacked, ignore_errors=True)

    def read(self, raw: Path) -> RawData:
        """Read the official files as uint8 (N, 32, 32, 3) and int64 (N,), after checking each file's md5.

        `raw` is the official folder or its parent. Raises InputError naming a file that is missing, differs from its md5, or
        has unexpected content.
        """
        folder = self.locate(raw)
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; expected the official {self.name} files in it; "
                "run `prepkd prepare --download` or put them there"
            )
        # The class names first: the file is small, and if it is missing no images need be read.
        class_names = _class_names(folder, self)
        train_images, train_labels = _samples(folder, self.train, self)
        test_images, test_labels = _samples(folder, self.test, self)
        return RawData(
            dataset=self.name,
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
            class_names=class_names,
            source=self.citation,
        )


_CITATION = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; no licence stated"

# Checksums: torchvision.datasets.CIFAR10 and CIFAR100.
CIFAR10 = Cifar(
    name="cifar10",
    place="cifar-10-batches-py",
    archive=Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
    ),
    train=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    labels_key="labels",
    names_key="label_names",
    classes=10,
    citation=f"CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html: {_CITATION}",
)
CIFAR100 = Cifar(
    name="cifar100",
    place="cifar-100-python",
    archive=Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
    ),
    train=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
    test=(("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
    labels_key="fine_labels",
    names_key="fine_label_names",
    classes=100,
    citation=f"CIFAR-100, https://www.cs.toronto.edu/~kriz/cifar.html: {_CITATION}",
)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _entry(path: Path, md5: str) -> dict[str, object]:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; expected the official one (md5 {md5}); "
            "run `prepkd prepare --download` or put it there"
        )
    content = path.read_bytes()  # check and parse the same bytes: the file could be swapped in between
    found = _md5(content)
    if found != md5:
        raise InputError(
            f"{path}: expected md5 {md5}, found {found}; delete it and run `prepkd prepare --download`, "
            "or put the official file there"
        )
    return unpickle(content, path)


def _class_names(folder: Path, source: Cifar) -> tuple[str, ...]:
    name, md5 = source.meta
    names = _entry(folder / name, md5).get(source.names_key)
    if not isinstance(names, list) or not all(isinstance(item, bytes | str) for item in names):
        raise InputError(f"{folder / name}: expected {source.names_key}, a list of class names, found none")
    decoded = tuple(item.decode("latin1") if isinstance(item, bytes) else item for item in names)
    if len(set(decoded)) != source.classes or len(decoded) != source.classes:
        raise InputError(
            f"{folder / name}: expected {source.classes} different class names, "
            f"found {len(decoded)} ({len(set(decoded))} different)"
        )
    return decoded


def _samples(
    folder: Path, files: tuple[tuple[str, str], ...], source: Cifar
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = [_part(folder / name, md5, source) for name, md5 in files]
    rows = np.concatenate([rows for rows, _ in parts])
    # The files store channels first; all other code expects channels last.
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.concatenate([labels for _, labels in parts])


def _part(path: Path, md5: str, source: Cifar) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    entry = _entry(path, md5)
    rows, labels = entry.get("data"), entry.get(source.labels_key)
    width = CHANNELS * SIDE * SIDE
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != width:
        found = rows.shape if isinstance(rows, np.ndarray) else type(rows).__name__
        raise InputError(f"{path}: expected data of shape (N, {width}), found {found}")
    if not isinstance(labels, list) or len(labels) != len(rows):
        found = f"{len(labels)} labels" if isinstance(labels, list) else type(labels).__name__
        raise InputError(f"{path}: expected {source.labels_key}, a list of {len(rows)} labels, found {found}")
    for position, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < source.classes:
            raise InputError(
                f"{path}: expected {source.labels_key} from 0 to {source.classes - 1}, found {label!r} at {position}"
            )
    return rows, np.array(labels, dtype=np.int64)
