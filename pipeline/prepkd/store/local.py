"""A local Zarr store that reads only regular files inside its folder."""

import asyncio
import errno
import os
import re
import stat
from pathlib import Path

from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from prepkd.errors import InputError
from prepkd.runtime.files import path_in_errors

# An object in a DVC cache: with `cache.type symlink`, DVC puts links to such files in place of a store's files.
CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class LocalFiles(LocalStore):
    """LocalStore that raises InputError for a pipe, a device or a socket, and for a link that leads out of its folder.

    Reading a pipe would wait for ever, and reading some devices never ends. A link may lead to an object in a DVC cache.
    """

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file's content, or its first bytes; None if it does not exist."""
        if not self._is_open:
            await self._open()
        buffer = (prototype or default_buffer_prototype()).buffer
        end = None
        if byte_range is not None:
            assert isinstance(byte_range, RangeByteRequest) and byte_range.start == 0, byte_range
            end = byte_range.end
        content = await asyncio.to_thread(_read, self.root, key, end)
        return None if content is None else buffer.from_bytes(content)


def _read(root: Path, key: str, end: int | None) -> bytes | None:
    """Read the first `end` bytes of a regular file, all of them if None; returns None for a folder and a missing file."""
    path = root / key
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFDIR:
            return None
        if kind != stat.S_IFREG:
            raise InputError(f"{root}: {key} is {KINDS.get(kind, 'no file')}; expected a regular file")
        if (target := _outside(root, key)) is not None:
            raise InputError(f"{root}: {key} leads to {target}, outside the store; expected a file inside it")
        with path_in_errors(path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(size if end is None else min(size, end))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{root}: {key} is a link to itself; expected a regular file") from None


def _outside(root: Path, key: str) -> str | None:
    """The file's real path if a link below `root` leads out of it, other than to a DVC cache; else None."""
    path, parts = str(root), key.split("/")
    linked = ".." in parts
    for part in parts:
        path = f"{path}/{part}"
        linked = linked or stat.S_ISLNK(os.lstat(path).st_mode)
    if not linked:  # nearly always; resolving the whole path would cost more
        return None
    real = os.path.realpath(path)
    return None if real.startswith(os.path.realpath(root) + os.sep) or CACHED.search(real) else real
