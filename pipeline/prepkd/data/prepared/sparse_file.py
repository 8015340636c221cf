"""An in-memory sparse file: only its written parts take memory."""

import io
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class SparseFile(io.RawIOBase):
    """The file object that HDF5 writes to; Python then writes to disk, since HDF5 crashes the process on a full disk."""

    def __init__(self) -> None:
        self._writes: list[tuple[int, bytes]] = []
        self._position = self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to an offset, or to the end; HDF5 uses no other mode."""
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._position

    def write(self, buffer: "ReadableBuffer", /) -> int:
        """Keep these bytes at the current position."""
        content = bytes(buffer)
        self._writes.append((self._position, content))
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read the bytes written last at each offset, zeros in holes."""
        view, here = memoryview(buffer).cast("B"), self._position
        view[:] = bytes(len(view))
        for start, content in self._writes:
            first, last = max(start, here), min(start + len(content), here + len(view))
            if first < last:
                view[first - here : last - here] = content[first - start : last - start]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the end of the file."""
        self._end = self._position if size is None else size
        return self._end

    def copy_to(self, file: IO[bytes]) -> None:
        """Write the kept parts in order; the bytes of `file` at the holes stay."""
        for start, content in self._writes:
            file.seek(start)
            file.write(content)
        file.truncate(self._end)
