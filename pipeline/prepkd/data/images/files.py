"""Image files on disk; `prepare` decodes each of them once, and keeps its pixels or its bytes."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from prepkd.data.images.decode import decoded, image_format, image_size
from prepkd.data.images.threads import threaded
from prepkd.errors import InputError

FORMAT_OF = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
# Files whose bytes are in memory at once: a folder may hold photographs of many megabytes.
AHEAD = 64


@dataclass(frozen=True)
class ImageFiles:
    """N image files below `root`: names (N,), UTF-8 bytes, and sizes int64 (N,) in bytes.

    All images must have the `shape` (H, W, 3), or any if it is None, and the `format`, one of `decode.FORMATS`, or any if it is
    None; `format_advice` ends the message about another format. `encoded`: the prepared file keeps their bytes, not their pixels.
    """

    root: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    shape: tuple[int, int, int] | None
    encoded: bool = False
    format: str | None = None
    format_advice: str = "put the original file there, or take it out"

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: "slice | NDArray[np.integer]") -> "ImageFiles":
        """Some of the files, in the order of `chosen`, as NumPy indexes."""
        return replace(self, names=self.names[chosen], sizes=self.sizes[chosen])

    def path(self, index: int) -> Path:
        """A file's path."""
        return self.root / bytes(self.names[index]).decode()

    def pixels(self) -> Iterator[NDArray[np.uint8]]:
        """Decode each image in turn to RGB, uint8 (H, W, 3); raises InputError naming the first that is no image."""
        return threaded(lambda index: np.asarray(_decoded(self, index)[1]), range(len(self)), AHEAD)

    def contents(self) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
        """Read each file's bytes in turn, with the counts of each channel's values, int64 (3, 256).

        Raises InputError naming the first that is no image.
        """

        def checked(index: int) -> tuple[bytes, NDArray[np.int64]]:
            content, image = _decoded(self, index)
            return content, np.array(image.histogram(), dtype=np.int64).reshape(3, 256)

        return threaded(checked, range(len(self)), AHEAD)


def with_one_format(splits: list[ImageFiles], advice: str) -> list[ImageFiles]:
    """Require the most frequent format of all files; raises InputError naming a file with the ending of another format.

    Decoding a file compares its content as well; `advice` ends the message about another format.
    """
    endings = Counter(_ending(files.path(i)) for files in splits for i in range(len(files)))
    usual = endings.most_common(1)[0][0]
    splits = [replace(files, format=usual, format_advice=advice) for files in splits]
    for files in splits:
        for i in range(len(files)):
            if _ending(files.path(i)) != usual:
                _decoded(files, i)  # raises InputError that names both formats
    return splits


def common_shape(splits: list[ImageFiles]) -> tuple[int, int, int] | None:
    """The (H, W, 3) of all images, None if two differ; raises InputError naming a file that is no image."""
    paths = chain.from_iterable(map(files.path, range(len(files))) for files in splits)
    sizes = threaded(_size, paths, AHEAD)
    first = next(sizes)
    return (*first, 3) if all(size == first for size in sizes) else None


def _ending(path: Path) -> str:
    """The format of a file by its name."""
    return FORMAT_OF[path.suffix.lower()]


def _size(path: Path) -> tuple[int, int]:
    with _readable(path):
        return image_size(path)


def _decoded(files: ImageFiles, index: int) -> tuple[bytes, Image]:
    path = files.path(index)
    with _readable(path):
        content = path.read_bytes()
    if len(content) != files.sizes[index]:  # its place in the prepared file was reserved by size
        raise InputError(
            f"{path}: has {len(content)} bytes, had {files.sizes[index]} before; it changed during reading; run again"
        )
    image = decoded(content, path)
    found = image_format(content)
    if files.format is not None and (found, _ending(path)) != (files.format, files.format):
        raise InputError(
            f"{path}: is {found}, named {path.suffix}; expected {files.format}, and named so, as the other images here; "
            f"{files.format_advice}"
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
        raise InputError(f"{path}: can't be read: {error.strerror}; fix it, or take it out") from None
