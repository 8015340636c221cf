"""A file in memory that keeps what is written to it, and no holes between."""

import io
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class FileWithHoles(io.RawIOBase):
    """What HDF5 asks of a file object, so that others write what it makes: where a disk is full, HDF5 crashes the process."""

    def __init__(self) -> None:
        self._writes: list[tuple[int, bytes]] = []
        self._position = self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to an offset, or to the end: no more is asked for."""
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._position

    def write(self, buffer: "ReadableBuffer", /) -> int:
        """Keep some bytes at this position."""
        content = bytes(buffer)
        self._writes.append((self._position, content))
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """What was written last at each place, zeros where nothing was."""
        view, here = memoryview(buffer).cast("B"), self._position
        view[:] = bytes(len(view))
        for start, content in self._writes:
            first, last = max(start, here), min(start + len(content), here + len(view))
            if first < last:
                view[first - here : last - here] = content[first - start : last - start]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set where the file ends."""
        self._end = self._position if size is None else size
        return self._end

    def copy_to(self, file: IO[bytes]) -> None:
        """Write what was written, in the same order; the bytes of `file` in the holes stay."""
        for start, content in self._writes:
            file.seek(start)
            file.write(content)
        file.truncate(self._end)
