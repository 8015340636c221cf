"""Image files on disk; `prepare` decodes each once and keeps its pixels or its bytes."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from prepkd.data.images.decode import (
    MAX_PIXELS,
    apply_orientation,
    decode_image,
    image_format,
    image_size,
    orientation_of,
)
from prepkd.data.images.faults import SHOWN, Faults
from prepkd.data.images.threads import threaded
from prepkd.errors import InputError

FORMAT_OF = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
# The number of files in memory at once: a folder may hold photographs of many megabytes.
AHEAD = 64
# Bytes of metadata that a file may have, in addition to 8 bytes per allowed pixel.
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class ImageFiles:
    """N image files below `root`: names (N,), UTF-8 bytes, and sizes int64 (N,) in bytes.

    All images must have the `shape` (H, W, 3) and the `format`, one of `decode.FORMATS`; None allows any. `format_advice` ends
    the message about another format. `encoded`: the prepared file keeps bytes, not pixels. `upright`: images are turned upright
    by their EXIF orientation. An image of more than `max_pixels` is not decoded.
    """

    root: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    shape: tuple[int, int, int] | None
    encoded: bool = False
    format: str | None = None
    format_advice: str = "put the original file there, or take it out"
    upright: bool = False
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: "slice | NDArray[np.integer]") -> "ImageFiles":
        """Select files in the order of `chosen`, with NumPy's indexing."""
        return replace(self, names=self.names[chosen], sizes=self.sizes[chosen])

    @property
    def keeps_pixels(self) -> bool:
        """Whether the prepared file keeps the pixels: images of one shape, unless they are `encoded`."""
        return self.shape is not None and not self.encoded

    def path(self, index: int) -> Path:
        """A file's path."""
        return self.root / os.fsdecode(bytes(self.names[index]))

    def read(self, faults: Faults) -> "Iterator[ReadImage]":
        """Read and decode each file in turn; unsuitable files are added to `faults` and left out."""

        def attempt(index: int) -> "ReadImage | InputError":
            try:
                return _read(self, index)
            except InputError as error:
                return error

        for found in threaded(attempt, range(len(self)), AHEAD):
            if isinstance(found, InputError):
                faults.add(str(found))
            else:
                yield found


class ReadImage(NamedTuple):
    """A file's bytes, its EXIF orientation, and its pixels uint8 (H, W, 3); for encoded images value counts (3, 256) instead.

    Pixels of encoded images are not kept: photographs are large, and many are read ahead.
    """

    content: bytes
    orientation: int
    pixels: NDArray[np.uint8] | None
    counts: NDArray[np.int64] | None


def with_one_format(splits: list[ImageFiles], advice: str, faults: Faults) -> list[ImageFiles]:
    """Require the most frequent format of all files; a file with the ending of another format is added to `faults`.

    Decoding a file compares its content as well; `advice` ends the message about another format.
    """
    endings = Counter(_ending(files.path(i)) for files in splits for i in range(len(files)))
    if not endings:
        return splits
    usual = endings.most_common(1)[0][0]
    splits = [replace(files, format=usual, format_advice=advice) for files in splits]
    for files in splits:
        for i in range(len(files)):
            if _ending(files.path(i)) != usual:
                if faults.count >= SHOWN:  # only counted, so the file need not be read
                    faults.add(str(files.path(i)))
                    continue
                with faults.collecting():
                    _read(files, i)  # raises InputError that names both formats
    return splits


def find_unreadable(splits: list[ImageFiles], faults: Faults) -> None:
    """Add the files without an image header to `faults`; those with the ending of another format have been added already.

    Pixels are not decoded: that takes minutes, and there are other faults to report.
    """
    for files in splits:
        paths = (files.path(i) for i in range(len(files)))
        wanted = (path for path in paths if files.format in (None, _ending(path)))
        for fault in threaded(_fault, wanted, AHEAD):
            if fault is not None:
                faults.add(fault)


def common_shape(splits: list[ImageFiles]) -> tuple[int, int, int] | None:
    """The (H, W, 3) of all images, None if they differ; files that are not images are left to `ImageFiles.read`."""
    paths = ((files.path(i), files.upright) for files in splits for i in range(len(files)))
    sizes = (size for size in threaded(_size, paths, AHEAD) if size is not None)
    first = next(sizes, None)
    return (*first, 3) if first and all(size == first for size in sizes) else None


def _ending(path: Path) -> str:
    """The format of a file by its name."""
    return FORMAT_OF[path.suffix.lower()]


def _size(named: tuple[Path, bool]) -> tuple[int, int] | None:
    path, upright = named
    try:
        with _readable(path):
            return image_size(path, upright=upright)
    except InputError:  # reported when the file is decoded, together with the other faults
        return None


def _fault(path: Path) -> str | None:
    try:
        with _readable(path):
            image_size(path)
    except InputError as error:
        return str(error)
    return None


def _read(files: ImageFiles, index: int) -> ReadImage:
    path, size = files.path(index), int(files.sizes[index])
    if size > MAX_BYTES + 8 * files.max_pixels:
        raise InputError(
            f"{path}: has {size:,} bytes; expected at most {MAX_BYTES + 8 * files.max_pixels:,}, with "
            f"prepare.max_pixels {files.max_pixels:,}; replace it, or take it out"
        )
    with _readable(path):
        content = path.read_bytes()
    if len(content) != size:  # its place in the prepared file was reserved by size
        raise InputError(f"{path}: has {len(content)} bytes, had {size} before; it changed during reading; run again")
    orientation = 1

    def check(image: Image) -> None:
        nonlocal orientation
        orientation = orientation_of(image)
        _refuse_size(files, path, image, turned=files.upright and orientation >= 5)

    image = decode_image(content, path, check=check)
    found = image_format(content)
    if files.format is not None and (found, _ending(path)) != (files.format, files.format):
        raise InputError(
            f"{path}: is {found}, named {path.suffix}; expected {files.format}, and named so, as the other images here; "
            f"{files.format_advice}"
        )
    if files.upright:
        image = apply_orientation(image, orientation)
    if files.keeps_pixels:
        return ReadImage(content, orientation, np.asarray(image), None)
    return ReadImage(content, orientation, None, np.array(image.histogram(), dtype=np.int64).reshape(3, 256))


def _refuse_size(files: ImageFiles, path: Path, image: Image, *, turned: bool) -> None:
    """Raise InputError if an opened image is too large, or differs in shape from the others."""
    if image.width * image.height > files.max_pixels:
        raise InputError(
            f"{path}: {image.width} x {image.height} pixels, {image.width * image.height:,} in all; expected at most "
            f"prepare.max_pixels, {files.max_pixels:,}; make it smaller, take it out, or raise that"
        )
    width, height = (image.height, image.width) if turned else (image.width, image.height)
    if files.shape is not None and (height, width) != files.shape[:2]:
        raise InputError(
            f"{path}: {width} x {height} pixels; expected {files.shape[1]} x {files.shape[0]}, as every image here has; "
            "put the original file there, or take it out"
        )


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}; fix it, or take it out") from None
