"""Walk folders of images: collect each class's files, skip hidden ones, and report everything else as a fault."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prepkd.data.images.faults import Faults
from prepkd.data.images.files import FORMAT_OF, ImageFiles
from prepkd.data.sources.names import is_hidden, name_difference, nfc_name, utf8
from prepkd.data.sources.raw import LabelledFiles
from prepkd.errors import InputError

SUFFIXES = tuple(FORMAT_OF)
MAX_DEPTH = 64  # folders within each other
# A file's name below a root, and its size in bytes.
Found = tuple[str, int]


class Walk:
    """A walk through the folders of images below `root`, with its `faults`, skipped names and followed links.

    Folders are identified by device and inode, so that each is walked only once, wherever links lead.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults = Faults()
        self._classes: dict[str, list[str]] = {}
        self._seen: dict[tuple[int, int], Path] = {}
        self._hidden: list[str] = []
        self._linked: list[str] = []

    def class_folders(self, split: str) -> list[str]:
        """The names of a split's class folders, sorted; files beside them, and names that look equal, are faults.

        The split "" is a flat folder: its class folders are directly in the root.
        """
        if split in self._classes:
            return self._classes[split]
        names: dict[str, str] = {}
        for name, status in self._entries(split):
            where = self.root / _below(split, name)
            if not stat.S_ISDIR(status.st_mode):
                expected = f"expected {_below(split, '<class>/<image>')}"
                self.faults.add(f"{where}: a file outside the class folders; {expected}; take it out")
            elif (other := names.setdefault(nfc_name(name), name)) != name:
                self.faults.add(f"{where}: {name_difference(name, other)}; expected each class once; rename it")
        self._classes[split] = list(names.values())
        return self._classes[split]

    def images_below(self, folder: str) -> list[Found]:
        """All image files in and below a folder, sorted; a file that is not an image, or a folder without images, is a fault."""
        before = self.faults.count
        found = self._files(folder)
        if not found and self.faults.count == before:
            self.faults.add(
                f"{self.root / folder}: a class without images; expected at least one; add them, or take the folder out"
            )
        return found

    def split_files(
        self, split: str, classes: Sequence[str], shape: tuple[int, int, int] | None = None, kind: str | None = None
    ) -> LabelledFiles:
        """One split's files, with labels as positions in `classes`; other class folders are faults."""
        found, there = [], {nfc_name(name): name for name in self.class_folders(split)}
        for name in classes:
            here = there.pop(nfc_name(name), None)
            where = f"{self.root / split / (here or name)}"
            if here is None:
                self.faults.add(f"{where}: no such folder; expected every split to have the same classes; add it")
            elif here != name:
                self.faults.add(
                    f"{where}: {name_difference(here, name)}; expected every split to have the same; rename it"
                )
            else:
                found.append((name, self.images_below(_below(split, name))))
        for name in there.values():
            self.faults.add(
                f"{self.root / split / name}: not one of the {len(classes)} classes; expected every split to have the same; "
                "rename it, or take it out"
            )
        files = dict(found)
        return label_files(self.root, [files.get(name, []) for name in classes], shape, kind)

    def notes(self) -> tuple[str, ...]:
        """Lines on skipped names and, if DVC tracks the root, on linked folders; raises InputError for faults."""
        self.faults.refuse(self.root)
        notes = []
        if self._hidden:
            several = "files and folders" if len(self._hidden) > 1 else "file or folder"
            notes.append(f"{len(self._hidden):,} {several} skipped, hidden or of a system: {_some(self._hidden)}")
        if self._linked and _tracked(self.root):
            several = "folders are links" if len(self._linked) > 1 else "folder is a link"
            notes.append(
                f"{len(self._linked):,} {several}: {_some(self._linked)}; `dvc add` does not follow links and misses changes "
                "behind them; use hard links (cp -al) or copies"
            )
        return tuple(notes)

    def _files(self, folder: str) -> list[Found]:
        found: list[Found] = []
        stems: dict[str, str] = {}
        for name, status in self._entries(folder):
            inner = f"{folder}/{name}"
            if stat.S_ISDIR(status.st_mode) and inner.count("/") <= MAX_DEPTH:
                found += self._files(inner)
                continue
            with self.faults.collecting():
                if stat.S_ISDIR(status.st_mode):
                    raise InputError(
                        f"{self.root / inner}: more than {MAX_DEPTH} folders deep; move it up, or take it out"
                    )
                _refuse_no_image(self.root / inner, status)
                # Refuse an image beside its own conversion, and names that would be the same file on other file systems.
                other = stems.setdefault(nfc_name(Path(name).stem).casefold(), name)
                if other != name:
                    raise InputError(
                        f"{self.root / inner}: has the name of {other} beside it, but for case, ending or Unicode normal form; "
                        "expected each image once; take one out, or rename it"
                    )
                found.append((inner, status.st_size))
        return found

    def _entries(self, folder: str) -> list[tuple[str, os.stat_result]]:
        """Name and status of all entries of a folder that are not hidden, sorted by name; links are followed."""
        path = self.root / folder
        with self.faults.collecting():
            try:
                status = path.stat()
                names = sorted(inner.name for inner in path.iterdir())
                linked = path.is_symlink()
            except OSError as error:
                raise InputError(f"{path}: can't be listed: {error.strerror}; fix it, or take it out") from None
            first = self._seen.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                raise InputError(f"{path}: is the same folder as {first}; expected each image once; take out the link")
            if linked:
                self._linked.append(folder)
            self._hidden += [f"{folder}/{name}" for name in names if is_hidden(name)]
            shown = [(name, self._status(path, name)) for name in names if not is_hidden(name)]
            return [(name, status) for name, status in shown if status is not None]
        return []

    def _status(self, folder: Path, name: str) -> os.stat_result | None:
        with self.faults.collecting():
            try:
                if len(utf8(name).splitlines()) > 1:
                    raise InputError(f"{folder}: the name {name!r} has a line break; rename it")
                return (folder / name).stat()
            except UnicodeDecodeError:
                raise InputError(f"{folder}: the name {os.fsencode(name)!r} is not UTF-8; rename it") from None
            except OSError as error:
                raise InputError(f"{folder / name}: can't be read: {error.strerror}; fix it, or take it out") from None
        return None


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _tracked(folder: Path) -> bool:
    """Whether `dvc add` tracks a folder or one of its parents, by a `.dvc` file beside it."""
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - without following links: DVC tracks the path as it is written
    return any(place.with_name(f"{place.name}.dvc").is_file() for place in (path, *path.parents) if place.name)


def subfolder_or_self(raw: Path, name: str) -> Path:
    """The folder of this name in `raw` if it exists, else `raw` itself."""
    return raw / name if (raw / name).is_dir() else raw


def label_files(
    root: Path, classes: list[list[Found]], shape: tuple[int, int, int] | None, kind: str | None
) -> LabelledFiles:
    """The files of all classes in order, with this expected shape and format, and their labels, int64 (N,)."""
    found = [file for files in classes for file in files]
    names = np.array([os.fsencode(name) for name, _ in found], dtype=np.bytes_)
    sizes = np.array([size for _, size in found], dtype=np.int64)
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes]).astype(np.int64)
    return ImageFiles(root, names, sizes, shape, format=kind), labels


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _refuse_no_image(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: neither a file nor a folder; take it out")
    if path.suffix.lower() not in SUFFIXES:
        kind = f"a {path.suffix} file" if path.suffix else "a file"
        raise InputError(
            f"{path}: {kind} among the images; expected only {', '.join(SUFFIXES)}; convert it, or take it out"
        )
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty; replace it, or take it out")
