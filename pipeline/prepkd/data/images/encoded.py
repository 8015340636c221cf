"""Images of any size, kept as the bytes of their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from prepkd.data.images.decode import apply_orientation, decode_image
from prepkd.data.images.statistics import Statistics


@dataclass(frozen=True)
class EncodedImages:
    """The bytes of N image files in sequence: content uint8 (total,), offsets int64 (N + 1,), names bytes (N,).

    Image i is content[offsets[i]:offsets[i + 1]]. Two arrays, not N objects, so that forked workers copy nothing.
    `statistics` are those that `prepare` wrote for the training split; a selection has none. `orientations` uint8 (N,) are the
    EXIF orientations by which images are turned upright; None if all are shown as stored.
    """

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    names: NDArray[np.bytes_]
    statistics: Statistics | None = None
    orientations: NDArray[np.uint8] | None = None
    channels: ClassVar[int] = 3

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]) -> "EncodedImages":
        """Select images in the order of `chosen`, with NumPy's indexing."""
        rows = np.arange(len(self))[chosen]
        parts = [self.file(row) for row in rows.tolist()]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)
        orientations = None if self.orientations is None else self.orientations[rows]
        return EncodedImages(np.frombuffer(b"".join(parts), np.uint8), offsets, self.names[rows], None, orientations)

    def file(self, index: int) -> memoryview:
        """The bytes of one image's file."""
        return self.content.data[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def name(self, index: int) -> str:
        """The path of an image's file, relative to the source's folder."""
        return bytes(self.names[index]).decode(errors="replace")

    def decode(self, indices: Sequence[int] | NDArray[np.integer]) -> "list[DecodedImage]":
        """Decode some images; raises InputError naming one that is damaged."""
        return [DecodedImage(self._upright(index)) for index in map(int, indices)]

    def _upright(self, index: int) -> Image:
        image = decode_image(self.file(index), self.name(index))
        return image if self.orientations is None else apply_orientation(image, int(self.orientations[index]))


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image, a `views.picture.Picture`: pixels are copied from the decoder's memory only as far as needed."""

    image: Image

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w)."""
        return 3, self.image.height, self.image.width

    def box(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Copy a box of the image, uint8 (3, height, width)."""
        return _pixels(self.image.crop((left, top, left + width, top + height)))

    def whole(self) -> Tensor:
        """Copy the whole image, uint8 (3, h, w)."""
        return _pixels(self.image)


def _pixels(image: Image) -> Tensor:
    # Channels last in memory, as decoded: this avoids another copy, and resizing is faster.
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
