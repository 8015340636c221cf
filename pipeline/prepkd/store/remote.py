"""A Zarr store at an fsspec URL: requests are bounded in time, reads also in bytes, and each failure is one line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from prepkd.errors import InputError, UnreachableError
from prepkd.runtime.services import DELAYS, PATIENCE, RATE, failures, may_pass, words

LONG = 300.0  # seconds for all pages of a listing, and for a file of unknown size in a bucket

T = TypeVar("T")


class RemoteStore(FsspecStore):
    """FsspecStore that raises UnreachableError, with the URL and the service's own words, when the service fails.

    A read of a file's first n bytes takes no more than n into memory. Transient failures are retried.
    """

    @property
    def is_web(self) -> bool:
        """Whether this is a web server, which has no listing: following links between its pages may never end."""
        protocol: str | tuple[str, ...] = self.fs.protocol
        return not {"http", "https"}.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a file's content, or its first bytes; None if it does not exist."""
        most = byte_range.end if isinstance(byte_range, RangeByteRequest) else None
        if self.is_web:  # sets its own time limit while the content arrives
            content = await self._tried(partial(self._download, f"{self.path}/{key}", most), None, key)
            return None if content is None else prototype.buffer.from_bytes(content)
        seconds = LONG if most is None else PATIENCE + most / RATE
        return await self._tried(partial(super().get, key, prototype, byte_range), seconds, key)

    async def _tried(self, attempt: Callable[[], Awaitable[T]], seconds: float | None, key: str = "") -> T:
        """Return the result of the first attempt that succeeds within `seconds`, out of three."""
        delays = iter(DELAYS)
        with self._one_line(key):
            while True:
                try:
                    async with asyncio.timeout(seconds):
                        return await attempt()
                except failures() as error:
                    delay = next(delays, None)
                    if delay is None or not may_pass(error):
                        raise
                await asyncio.sleep(delay)

    async def _download(self, url: str, most: int | None) -> bytes | None:
        """Stream the first `most` bytes; no range request, since a server may ignore the range and send the whole file."""
        session = await self.fs.set_session()
        clock = asyncio.get_running_loop().time
        content, start = bytearray(), clock()
        async with (
            asyncio.timeout_at(start + PATIENCE) as limit,
            session.get(self.fs.encode_url(url), **self.fs.kwargs) as answer,
        ):
            if answer.status in (404, 410):
                return None
            answer.raise_for_status()
            async for part in answer.content.iter_any():
                content += part
                if most is not None and len(content) >= most:
                    break
                limit.reschedule(start + PATIENCE + len(content) / RATE)
        return bytes(memoryview(content)[:most])  # a slice of the bytearray would be one copy more

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write a file; in a bucket it appears complete or not at all."""
        await self._tried(partial(super().set, key, value, byte_range), PATIENCE + len(value) / RATE)

    async def create(self, key: str, content: bytes) -> bool:
        """Create a file with a conditional put; return False if it exists.

        A service or fsspec package without conditional puts replaces the file, or raises. False may also mean that an attempt
        created the file, its answer was lost, and the next attempt found it.
        """

        async def is_created() -> bool:
            try:
                await self.fs._pipe_file(f"{self.path}/{key}", content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if not _exists_already(error):
                    raise
                return False
            return True

        return await self._tried(is_created, PATIENCE + len(content) / RATE)

    async def exists(self, key: str) -> bool:
        """Check that a file exists."""
        return await self._tried(partial(super().exists, key), PATIENCE)

    async def delete(self, key: str) -> None:
        """Remove a file if it exists."""
        await self._tried(partial(super().delete, key), PATIENCE)

    async def is_object(self) -> bool:
        """Whether the place itself is an object, not a prefix of others."""

        async def is_file() -> bool:
            try:
                return bool((await self.fs._info(self.path))["type"] == "file")
            except FileNotFoundError:
                return False

        return await self._tried(is_file, PATIENCE)

    async def sizes(self) -> dict[str, int]:
        """The bytes of each file, by path relative to the store; entries of other places are left out."""
        if self.is_web:
            raise InputError(f"{self.fs.unstrip_protocol(self.path)}: a web server's files cannot be listed")
        found = await self._tried(partial(self.fs._find, self.path, detail=True), LONG)
        root = self.path.rstrip("/")
        below = {name[len(root) :].lstrip("/"): info for name, info in found.items() if _is_below(name, root)}
        return {key: int(info.get("size") or 0) for key, info in below.items()}

    async def list(self) -> AsyncIterator[str]:
        """List every file's path."""
        for key in await self.sizes():
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List the names under a prefix."""
        listing = super().list_dir

        async def listed() -> tuple[str, ...]:
            return tuple([name async for name in listing(prefix)])

        for name in await self._tried(listed, LONG):
            yield name

    @contextlib.contextmanager
    def _one_line(self, key: str = "") -> Iterator[None]:
        try:
            yield
        except failures() as error:
            where = f"{self.fs.unstrip_protocol(self.path)}: {f'{key}: ' if key and self.is_web else ''}"
            raise UnreachableError(
                f"{where}{words(error)}; check URL, network and credentials (docs/how-to/sharing.md)"
            ) from None


def _exists_already(error: OSError) -> bool:
    """Whether a conditional put lost to another; s3fs has no specific exception for some services' error codes."""
    answer = getattr(error.__cause__, "response", None) or {}
    return answer.get("Error", {}).get("Code") in ("PreconditionFailed", "412", "ConditionalRequestConflict")


def _is_below(name: str, root: str) -> bool:
    return (not root or name.startswith(f"{root}/")) and ".." not in name.split("/")
