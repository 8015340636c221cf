"""Walking folders of images: each class's files, and errors for everything that is no image."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prepkd.data.images.files import FORMAT_OF, ImageFiles
from prepkd.data.sources.raw import LabelledFiles
from prepkd.errors import InputError

SUFFIXES = tuple(FORMAT_OF)
# A file's name below a root, and its size in bytes.
Found = tuple[str, int]
# Folders by device and inode, so that each is walked only once, wherever links lead.
Seen = dict[tuple[int, int], Path]


def located(raw: Path, name: str) -> Path:
    """The folder of this name in `raw`, or `raw` itself if there is none."""
    return raw / name if (raw / name).is_dir() else raw


def class_folders(split: Path, seen: Seen) -> list[str]:
    """The names of a split's class folders, sorted; raises InputError if there is no such folder, or a file beside them."""
    entries = _entries(split, seen)
    for name, status in entries:
        if not stat.S_ISDIR(status.st_mode):
            raise InputError(
                f"{split / name}: a file outside the class folders; expected {split.name}/<class>/<image>; take it out"
            )
    return [name for name, _ in entries]


def images_below(root: Path, name: str, seen: Seen) -> list[Found]:
    """All image files in and below a folder, sorted; raises InputError naming a file that is no image, or an empty folder."""
    found = _walk(root, name, seen)
    if not found:
        raise InputError(
            f"{root / name}: a class without images; expected at least one; add them, or take the folder out"
        )
    return found


def labelled(
    root: Path, classes: list[list[Found]], shape: tuple[int, int, int] | None, kind: str | None
) -> LabelledFiles:
    """The files of each class in turn, of this shape and format, and their labels, int64 (N,)."""
    found = [file for files in classes for file in files]
    names = np.array([name.encode() for name, _ in found])
    sizes = np.array([size for _, size in found], dtype=np.int64)
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes]).astype(np.int64)
    return ImageFiles(root, names, sizes, shape, format=kind), labels


def split_files(
    root: Path,
    name: str,
    classes: Sequence[str],
    seen: Seen,
    shape: tuple[int, int, int] | None = None,
    kind: str | None = None,
) -> LabelledFiles:
    """One split's files; raises InputError unless its class folders are exactly `classes`."""
    found = class_folders(root / name, seen)
    if missing := sorted(set(classes) - set(found)):
        raise InputError(
            f"{root / name / missing[0]}: no such folder; expected every split to have the same classes; add it"
        )
    if other := sorted(set(found) - set(classes)):
        raise InputError(
            f"{root / name / other[0]}: not one of the {len(classes)} classes; expected every split to have the same; "
            "rename it, or take it out"
        )
    return labelled(root, [images_below(root, f"{name}/{label}", seen) for label in classes], shape, kind)


def _walk(root: Path, folder: str, seen: Seen) -> list[Found]:
    found: list[Found] = []
    stems: dict[str, str] = {}
    for name, status in _entries(root / folder, seen):
        inner = f"{folder}/{name}"
        if stat.S_ISDIR(status.st_mode):
            found += _walk(root, inner, seen)
        else:
            _refuse_no_image(root / inner, status)
            # Refuse an image beside its own conversion, and names that are one file on case-insensitive file systems.
            other = stems.setdefault(Path(name).stem.casefold(), name)
            if other != name:
                raise InputError(
                    f"{root / inner}: has the name of {other} beside it, but for case or ending; expected each image once; "
                    "take one out, or rename it"
                )
            found.append((inner, status.st_size))
    return found


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


def _entries(folder: Path, seen: Seen) -> list[tuple[str, os.stat_result]]:
    """Name and status of everything in a folder, links followed, sorted by name; raises InputError for a folder seen before."""
    try:
        status = folder.stat()
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be listed: {error.strerror}; fix it, or take it out") from None
    first = seen.setdefault((status.st_dev, status.st_ino), folder)
    if first != folder:
        raise InputError(f"{folder}: is the same folder as {first}; expected each image once; take out the link")
    return [(name, _status(folder, name)) for name in names]


def _status(folder: Path, name: str) -> os.stat_result:
    path = folder / name
    try:
        if len(name.encode().splitlines()) > 1:
            raise InputError(f"{folder}: the name {name!r} has a line break; rename it")
        return path.stat()
    except UnicodeEncodeError:
        raise InputError(f"{folder}: the name {os.fsencode(name)!r} is not UTF-8; rename it") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}; fix it, or take it out") from None
