"""Image files that are not read yet: `prepare` decodes each of them once, and keeps its pixels or its bytes."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prepkd.data.decode import decoded, image_size, threaded
from prepkd.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Files whose bytes are in memory at once: a folder may hold photographs of many megabytes.
AHEAD = 64


@dataclass(frozen=True)
class ImageFiles:
    """N image files below `root`: names (N,), UTF-8 bytes, and sizes int64 (N,) in bytes.

    `shape` is the (H, W, 3) that all of them must have, None where sizes may differ. `encoded`: what is kept of each is its
    bytes, not its pixels.
    """

    root: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    shape: tuple[int, int, int] | None
    encoded: bool = False

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


def common_shape(splits: "list[ImageFiles]") -> tuple[int, int, int] | None:
    """The (H, W, 3) of all images, or None as soon as two differ; raises InputError naming a file that is no image."""
    paths = chain.from_iterable(map(files.path, range(len(files))) for files in splits)
    sizes = threaded(_size, paths, AHEAD)
    first = next(sizes)
    return (*first, 3) if all(size == first for size in sizes) else None


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
