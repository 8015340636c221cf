"""A Zarr store at an fsspec URL that reports each failure in one line."""

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from prepkd.errors import InputError


class RemoteStore(FsspecStore):
    """FsspecStore that raises InputError, with the URL and the service's own words, when the service fails."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a file's content; None if it does not exist."""
        with self._one_line():
            return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write a file; in a bucket it appears complete or not at all."""
        with self._one_line():
            await super().set(key, value, byte_range)

    async def exists(self, key: str) -> bool:
        """Check that a file exists."""
        with self._one_line():
            return await super().exists(key)

    async def delete(self, key: str) -> None:
        """Remove a file if it exists."""
        with self._one_line():
            await super().delete(key)

    async def list(self) -> AsyncIterator[str]:
        """List every file's path."""
        with self._one_line():
            async for key in super().list():
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List the names under a prefix."""
        with self._one_line():
            async for name in super().list_dir(prefix):
                yield name

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except failures() as error:
            words = " ".join(str(error).split())
            raise InputError(
                f"{self.fs.unstrip_protocol(self.path)}: {words}; check URL, network and credentials (docs/how-to/sharing.md)"
            ) from None


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of an unusable place, those of the services' libraries included if they are loaded."""
    own = {"botocore.exceptions": "BotoCoreError", "aiohttp": "ClientError"}
    loaded = [getattr(sys.modules[module], name) for module, name in own.items() if module in sys.modules]
    return OSError, *loaded
