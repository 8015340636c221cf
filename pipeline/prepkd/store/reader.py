"""Read a store; every file is checked against the manifest before it is decoded."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, WrapperStore

from prepkd.errors import InputError, refuse_differences
from prepkd.store.attributes import FORMAT, MALFORMED, Attributes, plan_and_encoding, read_attributes
from prepkd.store.encodings import as_tensors
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY, Layout
from prepkd.store.place import get, is_remote, keys, open_place

YOUNG = 2_000_000_000  # nanoseconds; coarse clocks of file systems tick once in up to two seconds
REMEDY = "fetch the store again, or run cache-logits"


def difference(found: str, expected: str) -> str:
    """Show two digests, cut after the first block in which they differ."""
    length = next((12 * k for k in range(1, 6) if found[: 12 * k] != expected[: 12 * k]), 64)
    return f"{found[:length]}, the manifest says {expected[:length]}"


class CheckedStore(WrapperStore[Store]):
    """A store that compares each file with the manifest; a missing or different file raises InputError.

    A local file is hashed at the first reading; while its inode, size and times stay the same, only crc32c is checked.
    """

    def __init__(self, store: Store, manifest: dict[str, str], where: str) -> None:
        super().__init__(store)
        self.manifest, self.where = manifest, where
        self._hashed: dict[str, tuple[int, ...]] = {}  # identity of files that matched the manifest

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The complete file of a key; None for a key that is not in the manifest, unless it is a chunk's."""
        if key not in self.manifest:
            if "/c/" in key:  # Zarr would read a chunk of fill values
                raise InputError(f"{self.where}: {key} is not in {MANIFEST}; run cache-logits")
            return None
        before = self._identity(key)
        value = await super().get(key, prototype)
        if value is None:
            raise InputError(f"{self.where}: {key} is missing; {REMEDY}")
        if before is None or self._hashed.get(key) != before:
            await asyncio.to_thread(self.check, key, value.as_buffer_like())
            # A file that changes twice within one clock tick keeps its times: do not remember young files.
            if before is not None and before == self._identity(key) and time.time_ns() - max(before[2:]) > YOUNG:
                self._hashed[key] = before
        return value

    def forget(self) -> None:
        """Hash every file again."""
        self._hashed.clear()

    def _identity(self, key: str) -> tuple[int, ...] | None:
        """Inode, size and times of a local file; None for other places and for a missing file."""
        if not isinstance(self._store, LocalStore):
            return None
        try:
            status = (self._store.root / key).stat()
        except OSError:
            return None  # reading it will raise
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def check(self, key: str, content: bytes | bytearray | memoryview) -> None:
        """Refuse content whose SHA-256 differs from the manifest's; raises InputError."""
        found, expected = sha256(content), str(self.manifest.get(key))
        if found != expected:
            raise InputError(f"{self.where}: {key}: sha256 is {difference(found, expected)}; {REMEDY}")


def sha256(content: bytes | bytearray | memoryview) -> str:
    """SHA-256 of a file's content, 64 hex digits, as in the manifest."""
    return hashlib.sha256(content).hexdigest()


class LogitStore:
    """A finished logit store: the teacher's logits for each (view, sample).

    `views`, `samples` and `classes` are its size; `plan` makes its views, `encoding` decodes its rows, `attributes` describe
    their origin, and `summary` holds the teacher's error rate on the views. Open one with `LogitStore.open`.
    """

    def __init__(
        self, url: str, store: CheckedStore, group: zarr.Group, attributes: Attributes, present: set[str]
    ) -> None:
        self.url, self.attributes, self.store, self._group = url, attributes, store, group
        self.plan, self.encoding = plan_and_encoding(attributes, url)
        self.views, self.samples, self.classes = self.plan.views, self.plan.samples, self.encoding.classes
        self.layout = Layout(self.plan, self.encoding, int(self._array("logits").chunks[1]))
        # The manifest lists the description of each array.
        self._arrays = {name: self._array(name) for name in self.layout.fields}
        shapes = {name: (self.views, self.samples, *field.width) for name, field in self.layout.fields.items()}
        refuse_differences(
            {f"{name}.shape": (self._arrays[name].shape, shape) for name, shape in shapes.items()}, url, REMEDY
        )
        self._agreeing: set[int] = set()  # views whose parameters were compared with the plan's
        self.present = self._present(present)
        self.summary = self._summary()

    @classmethod
    def open(cls, url: str | Path | Store, **options: Any) -> "LogitStore":
        """Open a store at a local path, an fsspec URL (`options` go to fsspec) or in a Zarr store, for reading.

        Raises InputError if it is missing, unfinished, damaged or of another format.
        """
        where = str(url)
        store = url if isinstance(url, Store) else open_place(url, **options)
        nowhere = not isinstance(url, Store) and not is_remote(url) and not Path(url).is_dir()
        try:
            listing = None if nowhere else get(store, MANIFEST)
            if nowhere or (listing is None and not keys(store)):
                raise InputError(f"{where}: no such store; run `prepkd cache-logits NAME`")
            if listing is None:
                raise InputError(
                    f"{where}: no {MANIFEST}, so there is no finished store; run `prepkd cache-logits NAME` again"
                )
            manifest = json.loads(listing)
            checked = CheckedStore(store, manifest, where)
            group = zarr.open_group(checked, mode="r", zarr_format=3)
            attributes: dict[str, Any] = dict(group.attrs)["prepkd"]  # type: ignore[assignment]
            if attributes["format"] != FORMAT:
                remedy = "update prepkd" if attributes["format"] > FORMAT else "run cache-logits again"
                raise InputError(
                    f"{where}: format is {attributes['format']}, this version of prepkd reads {FORMAT}; {remedy}"
                )
            return cls(where, checked, group, read_attributes(attributes, where), keys(store))
        except InputError:
            raise
        except (*MALFORMED, FileNotFoundError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where}: not a logit store ({type(error).__name__}: {reason})") from None
        except OSError as error:
            raise InputError(f"{where}: cannot be read: {error}") from None

    def __repr__(self) -> str:
        made = self.attributes
        return (
            f"LogitStore({self.url!r}: {self.views} views x {self.samples} samples x {self.classes} classes, "
            f"{made.encoding.name}, teacher {made.teacher.name!r}, {made.dataset.name!r})"
        )

    def stored(self, view: int) -> dict[str, NDArray[Any]]:
        """One view as stored: the encoding's arrays (N, *width); raises InputError, IndexError.

        The view's parameters are compared with the plan's, so logits of other pixels are never returned.
        """
        names = [*self.encoding.fields]
        if view not in range(self.views):
            raise IndexError(f"view {view} is outside the store's {self.views} views")
        if view not in self.present:
            raise InputError(
                f"{self.url}: view {view} was not fetched; `prepkd fetch-views URL --views {view}` brings it"
            )
        if "params" not in self.layout.fields or view in self._agreeing:
            return dict(zip(names, sync(self._read(view, names)), strict=True))

        async def compared() -> tuple[list[NDArray[Any]], NDArray[Any]]:
            found, rows = await asyncio.gather(
                self._read(view, ["params", *names]), asyncio.to_thread(self.plan.parameters, view)
            )
            return found, rows

        (params, *found), rows = sync(compared())
        if not np.array_equal(params, rows):
            raise InputError(f"{self.url}: params of view {view} differ from the plan's; run cache-logits again")
        self._agreeing.add(view)  # permanently: later readings have the same hash
        return dict(zip(names, found, strict=True))

    async def _read(self, view: int, names: list[str]) -> list[NDArray[Any]]:
        """Read and check arrays of a view concurrently."""

        async def arrays() -> list[NDArray[Any]]:
            read = (self._arrays[name].async_array.getitem(view) for name in names)
            return [np.asarray(array) for array in await asyncio.gather(*read)]

        try:
            return await arrays()
        except InputError:
            raise
        except ValueError:  # crc32c of a file that was hashed before; hashing again names it
            self.store.forget()
            return await arrays()

    def slab(self, view: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float32]]:
        """One view decoded: z - max(z) (N, K), float16 or float32, and max(z) float32 (N,); raises InputError, IndexError."""
        return self._decoded(self.stored(view))

    def logits(self, view: int) -> NDArray[np.float32]:
        """The teacher's raw logits of one view, float32 (N, K)."""
        offsets, row_max = self.slab(view)
        return offsets.astype(np.float32) + row_max[:, None]

    def lookup(self, views: NDArray[np.integer[Any]], samples: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The teacher's raw logits of (view, sample) pairs, both (B,): float32 (B, K); reads each distinct view once."""
        views, samples = np.asarray(views), np.asarray(samples)
        found = np.empty((len(views), self.classes), np.float32)
        for view in np.unique(views):
            here = views == view
            rows = {name: array[samples[here]] for name, array in self.stored(int(view)).items()}
            offsets, row_max = self._decoded(rows)
            found[here] = offsets.astype(np.float32) + row_max[:, None]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all views in memory, as stored but not compressed."""
        return self.views * self.samples * sum(field.bytes_per_row for field in self.encoding.fields.values())

    def _decoded(self, rows: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.floating[Any]], NDArray[np.float32]]:
        answers = self.encoding.decode(as_tensors(rows))
        return answers["logits"].numpy(), answers["row_max"].numpy()

    def _present(self, files: set[str]) -> list[int]:
        """The complete views; all of them unless the store is a partial copy. Raises InputError for a missing file."""
        views = self.layout.views_in(files)
        if len(views) < self.views and PARTIAL not in files:
            absent = next(key for key in self.layout.all_keys() if key not in files)
            raise InputError(f"{self.url}: {absent} is missing; {REMEDY}")
        return views

    def _summary(self) -> dict[str, Any]:
        content = get(self.store, SUMMARY)
        if content is None:
            raise InputError(f"{self.url}: {SUMMARY} is missing; {REMEDY}")
        summary: dict[str, Any] = json.loads(content)
        return summary

    def _array(self, name: str) -> "zarr.Array[Any]":
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array
