"""A local Zarr store whose chunks are on disk, whole, before they are visible."""

import asyncio
import os
import uuid
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from prepkd.files import fsync, naming


class DurableStore(LocalStore):
    """LocalStore with temporary name, fsync, rename, fsync of the folder."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value so that after a crash it is there whole or not at all."""
        if not self._is_open:
            await self._open()
        self._check_writable()
        await asyncio.to_thread(_put, self.root / key, value)

    def remove_partial(self) -> None:
        """Remove temporary files that a killed writer left."""
        for left in self.root.rglob("*.partial"):
            left.unlink()


def _put(path: Path, value: Buffer) -> None:
    _make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with naming(path), temporary.open("wb") as file:
            file.write(value.as_buffer_like())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync(path.parent)


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, each one's entry flushed in turn."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)
