"""A store whose files are compared with its manifest, and with the sizes of its layout, before they are decoded."""

import asyncio
import time

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from prepkd.errors import InputError
from prepkd.runtime.files import sha256
from prepkd.store.documents import LIMITS, is_web_page
from prepkd.store.durable import file_identity
from prepkd.store.layout import MANIFEST, Layout

MIN_FILE_AGE = 2_000_000_000  # nanoseconds; coarse clocks of file systems tick once in up to two seconds


def difference(found: str, expected: str) -> str:
    """Show two digests, cut after the first block in which they differ."""
    length = next((12 * k for k in range(1, 6) if found[: 12 * k] != expected[: 12 * k]), 64)
    return f"{found[:length]}, the manifest says {expected[:length]}"


class CheckedStore(WrapperStore[Store]):
    """A store that compares each file with the manifest; a missing or different file raises InputError.

    A local file is hashed on the first read; while its inode, size and times stay the same, later reads check only crc32c.
    Without a `layout`, only descriptions can be read.
    """

    manifest: dict[str, str]
    where: str
    layout: Layout | None = None
    refuses_values: bool = True  # False while `verify` reads, which reports wrong values itself
    command: str = "cache-logits"  # writes the store

    def __init__(self, store: Store, manifest: dict[str, str], where: str) -> None:
        super().__init__(store)
        self.manifest, self.where = manifest, where
        self._hashed: dict[str, tuple[int, ...]] = {}  # identity of files that matched the manifest

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a complete file; None for a key outside the manifest, except for a chunk's key, which raises InputError."""
        if key not in self.manifest:
            if "/c/" in key:  # Zarr would read a chunk of fill values
                raise InputError(f"{self.where}: {key} is not in {MANIFEST}; run {self.command}")
            return None
        before = self._identity(key)
        most = self.max_size(key)
        value = await super().get(key, prototype, RangeByteRequest(0, most + 1))
        if value is None:
            raise InputError(f"{self.where}: {key} is missing; {self.remedy}")
        if len(value) > most:
            raise InputError(f"{self.where}: {key}: it has more than {most:,} bytes; {self.remedy}")
        if before is None or self._hashed.get(key) != before:
            await asyncio.to_thread(self.check, key, value.as_buffer_like())
            # A file that changes twice within one clock tick keeps its times: do not remember young files.
            if before is not None and before == self._identity(key) and time.time_ns() - max(before[2:]) > MIN_FILE_AGE:
                self._hashed[key] = before
        return value

    @property
    def remedy(self) -> str:
        """The remedy for a damaged file."""
        return f"fetch the store again, or run {self.command}"

    @property
    def place(self) -> Store:
        """The store underneath, whose files are not compared with the manifest."""
        return self._store

    def forget(self) -> None:
        """Forget which files matched, so that each is hashed again."""
        self._hashed.clear()

    def max_size(self, key: str) -> int:
        """The maximum size of a file in bytes."""
        part = self.layout.parse_chunk_key(key) if self.layout else None
        return self.layout.file_sizes(part[0])[1] if self.layout and part else LIMITS[key.rpartition("/")[2]]

    def _identity(self, key: str) -> tuple[int, ...] | None:
        """Inode, size and times of a local file; None for other places and for a missing file."""
        if not isinstance(self._store, LocalStore):
            return None
        try:
            status = (self._store.root / key).stat()
        except OSError:
            return None  # reading it will raise
        # With ctime: whoever changes a file can set its mtime back, but not its ctime.
        return *file_identity(status), status.st_ctime_ns

    def check(self, key: str, content: bytes | bytearray | memoryview) -> None:
        """Refuse content whose SHA-256 differs from the manifest's, and a chunk of another size or with wrong values.

        Values are checked right after the hash, while the content is in the processor's cache; those of a compressed array are
        checked after decoding. Raises InputError.
        """
        found, expected = sha256(content), self.manifest[key]
        if found != expected:
            page = "it is an HTML page; the server does not have this file: " if is_web_page(content) else ""
            raise InputError(f"{self.where}: {key}: {page}sha256 is {difference(found, expected)}; {self.remedy}")
        part = self.layout.parse_chunk_key(key) if self.layout else None
        if self.layout and part:
            name, _, chunk = part
            problem = self.layout.size_problem(name, content)
            if self.refuses_values or self.layout.fields[name].is_index:
                problem = problem or self.layout.value_problem(name, chunk, content)
            if problem:
                raise InputError(f"{self.where}: {key}: {problem}; {self.remedy}")
