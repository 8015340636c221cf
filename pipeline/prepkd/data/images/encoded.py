"""Images of any size, kept as the bytes of their files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.decode import decoded
from prepkd.data.images.statistics import Statistics
from prepkd.runtime.files import canonical_json

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class EncodedImages:
    """The bytes of N image files, one after the other: content uint8 (total,), offsets int64 (N + 1,), names bytes (N,).

    Image i is content[offsets[i]:offsets[i + 1]]. Two arrays, not N objects: nothing is copied to workers that are forked.
    `statistics` are those that `prepare` wrote with a training split; a selection has none.
    """

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    names: NDArray[np.bytes_]
    statistics: Statistics | None = None
    channels: ClassVar[int] = 3

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: "slice | NDArray[np.integer] | NDArray[np.bool_] | Sequence[int]") -> "EncodedImages":
        """Some of the images, in the order of `chosen`, as NumPy indexes."""
        rows = np.arange(len(self))[chosen]
        parts = [self.file(row) for row in rows.tolist()]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)
        return EncodedImages(np.frombuffer(b"".join(parts), np.uint8), offsets, self.names[rows])

    def file(self, index: int) -> memoryview:
        """One image's bytes, as its file has them."""
        return self.content.data[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def name(self, index: int) -> str:
        """The path of an image's file, relative to the folder that was read."""
        return bytes(self.names[index]).decode(errors="replace")

    def decode(self, indices: "Sequence[int] | NDArray[np.integer]") -> "list[Picture]":
        """Some images, decoded; raises InputError naming one that is none."""
        return [Picture(decoded(self.file(index), self.name(index))) for index in map(int, indices)]


@dataclass(frozen=True)
class Picture:
    """A decoded image, whose pixels leave the decoder's memory as far as they are wanted."""

    image: "Image"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w), as that of its tensor."""
        return 3, self.image.height, self.image.width

    def box(self, top: int, left: int, height: int, width: int) -> "Tensor":
        """A box of it, uint8 (3, height, width)."""
        return _pixels(self.image.crop((left, top, left + width, top + height)))

    def whole(self) -> "Tensor":
        """All of it, uint8 (3, h, w)."""
        return _pixels(self.image)


def _pixels(image: "Image") -> "Tensor":
    import torch

    # As they lie in memory, channels last: nothing is copied, and resizing is faster so.
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def encoded_fingerprint(files: Iterable[bytes | memoryview], labels: NDArray[np.int64]) -> str:
    """`array_fingerprint` of {"images": an object array of the files' bytes, "labels": labels}, one file at a time."""
    measured = (part for file in files for part in (len(file).to_bytes(8, "little"), file))
    return streamed_fingerprint(np.dtype(object), (len(labels),), measured, labels)


def streamed_fingerprint(
    dtype: "np.dtype[Any]", shape: tuple[int, ...], parts: Iterable[bytes | memoryview], labels: NDArray[np.int64]
) -> str:
    """`array_fingerprint` of {"images": an array of this type and shape, "labels": labels}, from the array's parts in turn."""
    digest = sha256(canonical_json(["images", dtype.str, list(shape)]).encode())
    for part in parts:
        digest.update(part)
    digest.update(canonical_json(["labels", "<i8", [len(labels)]]).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()
