"""Image files that are not read yet: `prepare` decodes each of them once, and keeps its pixels or its bytes."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.decode import decoded, image_format, image_size, threaded
from prepkd.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT_OF = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
# Files whose bytes are in memory at once: a folder may hold photographs of many megabytes.
AHEAD = 64


@dataclass(frozen=True)
class ImageFiles:
    """N image files below `root`: names (N,), UTF-8 bytes, and sizes int64 (N,) in bytes.

    `shape` is the (H, W, 3) that all of them must have, None where sizes may differ; `format` the one of `decode.FORMATS`, None
    where these may differ, and `mend_format` what to do about another. `encoded`: what is kept of each is its bytes, not its
    pixels.
    """

    root: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    shape: tuple[int, int, int] | None
    encoded: bool = False
    format: str | None = None
    mend_format: str = "put the original file there, or take it out"

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: "slice | NDArray[np.integer]") -> "ImageFiles":
        """Some of the files, in the order of `chosen`, as NumPy indexes."""
        return replace(self, names=self.names[chosen], sizes=self.sizes[chosen])

    def path(self, index: int) -> Path:
        """Where a file is."""
        return self.root / bytes(self.names[index]).decode()

    def pixels(self) -> Iterator[NDArray[np.uint8]]:
        """Each image in turn as RGB pixels, uint8 (H, W, 3); raises InputError naming the first that is none."""
        return threaded(lambda index: np.asarray(_decoded(self, index)[1]), range(len(self)), AHEAD)

    def contents(self) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
        """Each file's bytes in turn, and how often each channel has each value, int64 (3, 256).

        Raises InputError naming the first that is no image.
        """

        def checked(index: int) -> tuple[bytes, NDArray[np.int64]]:
            content, image = _decoded(self, index)
            return content, np.array(image.histogram(), dtype=np.int64).reshape(3, 256)

        return threaded(checked, range(len(self)), AHEAD)


def with_one_format(splits: list[ImageFiles], mend: str) -> list[ImageFiles]:
    """The files, each of which must have the format that most are named by; raises InputError naming one with another ending.

    What is in the others is seen when they are decoded; `mend` says what to do about it.
    """
    said = Counter(_ending(files.path(i)) for files in splits for i in range(len(files)))
    usual = said.most_common(1)[0][0]
    splits = [replace(files, format=usual, mend_format=mend) for files in splits]
    for files in splits:
        for i in range(len(files)):
            if _ending(files.path(i)) != usual:
                _decoded(files, i)  # refuses it, saying what it is
    return splits


def common_shape(splits: "list[ImageFiles]") -> tuple[int, int, int] | None:
    """The (H, W, 3) of all images, or None as soon as two differ; raises InputError naming a file that is no image."""
    paths = chain.from_iterable(map(files.path, range(len(files))) for files in splits)
    sizes = threaded(_size, paths, AHEAD)
    first = next(sizes)
    return (*first, 3) if all(size == first for size in sizes) else None


def _ending(path: Path) -> str:
    """The format that a file's name says."""
    return FORMAT_OF[path.suffix.lower()]


def _size(path: Path) -> tuple[int, int]:
    with _readable(path):
        return image_size(path)


def _decoded(files: ImageFiles, index: int) -> "tuple[bytes, Image]":
    path = files.path(index)
    with _readable(path):
        content = path.read_bytes()
    if len(content) != files.sizes[index]:  # its place in the prepared file is measured
        raise InputError(
            f"{path}: has {len(content)} bytes, had {files.sizes[index]} before; it was changed while it was read; run again"
        )
    image = decoded(content, path)
    found = image_format(content)
    if files.format is not None and (found, _ending(path)) != (files.format, files.format):
        raise InputError(
            f"{path}: is {found}, named {path.suffix}; expected {files.format}, and named so, as the other images here; "
            f"{files.mend_format}"
        )
    if files.shape is not None and (image.height, image.width) != files.shape[:2]:
        height, width, _ = files.shape
        raise InputError(
            f"{path}: {image.width} x {image.height} pixels; expected {width} x {height}, as every image here has; "
            "put the original file there, or take it out"
        )
    return content, image


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}; mend it, or take it out") from None
