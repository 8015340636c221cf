"""A local Zarr store that flushes each file to disk before it becomes visible."""

import asyncio
import os
import re
import uuid
from pathlib import Path

from zarr.core.buffer import Buffer

from prepkd.runtime.files import fsync, path_in_errors, sha256
from prepkd.store.local import LocalFiles

Identity = tuple[int, int, int]
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.partial")  # the end of a temporary file's name


class DurableStore(LocalFiles):
    """A local store that writes each file under a temporary name, syncs it, renames it, then syncs the folder."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._written: dict[str, tuple[Identity, str]] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value so that after a crash the file is complete or absent."""
        if not self._is_open:
            await self._open()
        self._check_writable()
        # Hash while the disk writes.
        self._written[key] = await asyncio.gather(
            asyncio.to_thread(_put, self.root / key, value), asyncio.to_thread(sha256, value.as_buffer_like())
        )

    def written(self, key: str) -> str | None:
        """Return the SHA-256 of the value that `set` wrote; None if the file was replaced or changed since."""
        found = self._written.get(key)
        if found is None or file_identity((self.root / key).stat()) != found[0]:
            return None
        return found[1]

    def remove_partial(self) -> None:
        """Remove the temporary files of a killed writer."""
        for left in self.root.rglob("*.partial"):
            if re.search(rf"{LEFTOVER.pattern}$", left.name):  # others are not this store's
                left.unlink()


def file_identity(status: os.stat_result) -> Identity:
    """Inode, size and modification time: they change if a file is replaced or written to.

    Without the change time (ctime), which differs before and after `DurableStore` renames a file.
    """
    return status.st_ino, status.st_size, status.st_mtime_ns


def _put(path: Path, value: Buffer) -> Identity:
    _make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with path_in_errors(path), temporary.open("wb") as file:
            file.write(value.as_buffer_like())
            file.flush()
            os.fsync(file.fileno())
            written = file_identity(os.fstat(file.fileno()))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync(path.parent)
    return written


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, and flush each entry in turn."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)
