"""Read a store; every file is checked against the manifest before it is decoded."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from prepkd.display.text import counted
from prepkd.errors import InputError, UnreachableError, one_line
from prepkd.runtime.files import sha256
from prepkd.runtime.services import is_remote
from prepkd.store.attributes import MALFORMED, Attributes, plan_and_encoding
from prepkd.store.checked import CheckedStore
from prepkd.store.documents import (
    differences,
    parse_attributes,
    parse_chunk_length,
    parse_manifest,
    parse_partial,
    parse_summary,
    read_document,
    word,
)
from prepkd.store.encodings import Encoding, LogitEncoding, Tensors, add_maximum, as_tensors, decode_in_blocks
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY, Layout
from prepkd.store.place import can_list, get, keys, open_place, sizes
from prepkd.views import ViewPlan


class AnswerStore:
    """A finished store of a teacher's answers, named tensors for each (view, sample).

    `views` and `samples` are its size; `plan` makes its views, `encoding` decodes its rows, `attributes` describe their
    origin, `summary` their content. `open` returns the subclass that reads it, and raises for a kind that `reads` lacks.
    """

    kind: ClassVar[str] = "store of answers"
    command: ClassVar[str] = "cache-logits"  # writes such stores
    reads: ClassVar[tuple[type, ...]] = (Encoding,)
    url: str
    attributes: Attributes
    store: CheckedStore
    manifest_sha256: str
    layout: Layout
    plan: ViewPlan
    encoding: Encoding
    views: int
    samples: int
    present: list[int]
    summary: dict[str, Any]

    def __init__(self, url: str, store: CheckedStore, sha256: str, attributes: Attributes, layout: Layout) -> None:
        self.url, self.attributes, self.store, self.manifest_sha256 = url, attributes, store, sha256
        self.layout, self.plan, self.encoding = layout, layout.plan, layout.encoding
        self.views, self.samples = self.plan.views, self.plan.samples
        # Built from the layout, which the stored descriptions were compared with, so that Zarr parses none of them.
        self._arrays = {name: layout.array(store, name) for name in layout.fields}
        self._sound: set[int] = set()  # views whose values were checked
        self.present, self._misfits = self._presence()
        self.summary = parse_summary(_read_listed(store, SUMMARY), layout, url)

    @classmethod
    def open(cls, url: str | Path | Store, *, sha256: str | None = None, teacher: str = "NAME", **options: Any) -> Self:
        """Open a store at a local path, an fsspec URL (`options` go to fsspec) or in a Zarr store, for reading.

        Raises InputError if it is missing (naming the `teacher` in the command that writes it), unfinished, damaged or of
        another format, or if its manifest's SHA-256 is not the given `sha256`; its subclass UnreachableError if the place
        cannot be reached or read.
        """
        where = str(url)
        store = url if isinstance(url, Store) else open_place(url, **options)
        try:
            if not isinstance(url, Store) and not is_remote(url) and not Path(url).is_dir():
                raise InputError(f"{where}: no such store; run `prepkd {cls.command} {teacher}`")
            return cls._opened(where, store, sha256, teacher)
        except InputError:
            raise
        except (*MALFORMED, MemoryError, FileNotFoundError) as error:
            raise InputError(f"{where}: not a {cls.kind} ({type(error).__name__}: {one_line(error)})") from None
        except OSError as error:
            raise UnreachableError(f"{where}: cannot be read: {error}") from None

    @classmethod
    def _opened(cls, where: str, store: Store, pinned: str | None, teacher: str) -> Self:
        listing = read_manifest(store, where, f"{cls.command} {teacher}")
        found = sha256(listing)
        if pinned is not None and pinned.lower() != found:
            raise InputError(
                f"{where}: {MANIFEST}: sha256 is {found}, expected {pinned}: another store, or a changed one"
            )
        checked = CheckedStore(store, parse_manifest(listing, where), where)
        attributes = parse_attributes(_read_listed(checked, "zarr.json"), where)
        plan, encoding = plan_and_encoding(attributes, where)
        kind = _kind(encoding)
        if not issubclass(kind, cls):
            raise InputError(f"{where}: holds a {kind.kind}, expected a {cls.kind}")
        checked.command = kind.command
        described = f"{encoding.commit}/zarr.json"
        chunk = parse_chunk_length(_read_listed(checked, described), described, where)
        try:
            checked.layout = Layout(plan, encoding, chunk)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        check_manifest(checked, checked.layout)
        for name in checked.layout.fields:
            for problem in differences(_read_listed(checked, f"{name}/zarr.json"), name, checked.layout, where):
                raise InputError(f"{where}: {name}.{problem}; {checked.remedy}")
        return kind(where, checked, found, attributes, checked.layout)

    @contextlib.contextmanager
    def values_as_they_are(self) -> Iterator[None]:
        """Read wrong values without an error within the context; afterwards check every view again. Not thread-safe."""
        self.store.refuses_values = False
        try:
            yield
        finally:
            self.store.refuses_values = True
            self.store.forget()
            self._sound.clear()

    def stored(self, view: int) -> dict[str, NDArray[Any]]:
        """One view as stored: the encoding's arrays (N, *width); raises InputError, IndexError.

        The view's parameters are compared with the plan's, so answers to other pixels are never returned.
        """
        names = [*self.encoding.fields]
        if view not in range(self.views):
            raise IndexError(f"view {view} is outside the store's {self.views} views")
        if view not in self.present:
            raise InputError(
                f"{self.url}: view {view} was not fetched; `prepkd fetch-views URL --select {view}` brings it"
            )
        if view in self._sound:  # permanent: later reads have the same hash
            return dict(zip(names, sync(self._read(view, names)), strict=True))
        found = sync(self._first(view, names))
        self._sound.add(view)
        return dict(zip(names, found, strict=True))

    def rows(self, views: NDArray[np.integer[Any]], samples: NDArray[np.integer[Any]]) -> dict[str, Tensor]:
        """The encoding's arrays (B, *width) of (view, sample) pairs, both (B,); reads each distinct view once.

        Raises InputError, IndexError.
        """
        views, samples = np.asarray(views), np.asarray(samples)
        found = {
            name: np.empty((len(views), *field.width), field.dtype) for name, field in self.encoding.fields.items()
        }
        for view in np.unique(views):
            here = views == view
            for name, array in self.stored(int(view)).items():
                found[name][here] = array[samples[here]]
        return as_tensors(found)

    async def _first(self, view: int, names: list[str]) -> list[NDArray[Any]]:
        """Read a view for the first time, and check its values; raises InputError."""
        # The stated number of samples may be false: refuse files of a wrong size before allocating that many rows.
        for key in (self._misfits or {}).get(view, ()):
            await self.store.get(key, default_buffer_prototype())
        found: list[NDArray[Any]]
        if "params" in self.layout.fields:
            reading = asyncio.create_task(self._read(view, ["params", *names]))
            if self._misfits is None:  # without a listing, sizes are known only once the files are read
                await reading
            (params, *found), rows = await asyncio.gather(reading, asyncio.to_thread(self.plan.parameters, view))
            if not np.array_equal(params, rows):
                raise InputError(
                    f"{self.url}: params of view {view} differ from the plan's; run {self.store.command} again"
                )
        else:
            found = await self._read(view, names)
        for name, array in zip(names, found, strict=True):
            field = self.layout.fields[name]
            # Values of uncompressed arrays were checked with their files.
            checked_here = field.compressed and self.store.refuses_values
            if checked_here and (problem := field.problem(array)):
                raise InputError(f"{self.url}: {name} of view {view}: {problem}; {self.store.remedy}")
        return found

    async def _read(self, view: int, names: list[str]) -> list[NDArray[Any]]:
        """Read and check arrays of a view concurrently."""

        async def arrays() -> list[NDArray[Any]]:
            read = (self._arrays[name].async_array.getitem(view) for name in names)
            return [np.asarray(array) for array in await asyncio.gather(*read)]

        try:
            return await arrays()
        except InputError:
            raise
        except (*MALFORMED, MemoryError):  # crc32c failed in a file that was hashed before; hashing again names it
            self.store.forget()
        try:
            return await arrays()
        except InputError:
            raise
        except (*MALFORMED, MemoryError) as error:
            raise InputError(
                f"{self.url}: view {view} does not decode: {one_line(error)}; {self.store.remedy}"
            ) from None

    @property
    def nbytes(self) -> int:
        """Bytes of all views in memory, as stored but not compressed."""
        return self.views * self.samples * sum(field.bytes_per_row for field in self.encoding.fields.values())

    def _presence(self) -> tuple[list[int], dict[int, list[str]] | None]:
        """Return the complete views, all unless the store is a partial copy, and by view the files of a wrong size.

        The latter is None for a place that lists no sizes. Raises InputError for a missing file.
        """
        place, layout = self.store.place, self.layout
        if not can_list(place):  # a missing file is found when it is read
            partial = read_document(place, PARTIAL)
            views = [*range(self.views)] if partial is None else parse_partial(partial, self.views, self.url)
            return views, None
        known = sizes(place)
        files = keys(place) if known is None else known.keys()
        views = layout.views_in(files)
        if len(views) < self.views and PARTIAL not in files:
            absent = next(key for key in layout.all_keys() if key not in files)
            raise InputError(f"{self.url}: {absent} is missing; {self.store.remedy}")
        return views, None if known is None else layout.invalid_sizes(known)


class LogitStore(AnswerStore):
    """A finished logit store: the teacher's logits for each (view, sample).

    `views`, `samples` and `classes` are its size; `plan` makes its views, `encoding` decodes its rows, `attributes` describe
    their origin, and `summary` holds the teacher's error rate on the views. Open one with `LogitStore.open`.
    """

    kind: ClassVar[str] = "logit store"
    reads: ClassVar[tuple[type, ...]] = (LogitEncoding,)
    encoding: LogitEncoding

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.encoding.classes

    def __repr__(self) -> str:
        made = self.attributes
        return (
            f"LogitStore({self.url!r}: {counted(self.views, 'view')} x {self.samples} samples x {self.classes} classes, "
            f"{made.encoding.name}, teacher {made.teacher.name!r}, {made.dataset.name!r})"
        )

    def slab(self, view: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.float32]]:
        """One view decoded: z - max(z) (N, K), float16 or float32, and max(z) float32 (N,); raises InputError, IndexError."""
        answers = self.encoding.decode(as_tensors(self.stored(view)))
        return answers["logits"].numpy(), answers["row_max"].numpy()

    def logits(self, view: int) -> NDArray[np.float32]:
        """The teacher's raw logits of one view, float32 (N, K)."""
        return add_maximum(self.encoding.decode(as_tensors(self.stored(view)))).numpy()

    def lookup(self, views: NDArray[np.integer[Any]], samples: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The teacher's raw logits of (view, sample) pairs, both (B,): float32 (B, K); reads each distinct view once."""
        return add_maximum(decode_in_blocks(self.encoding, self.rows(views, samples))).numpy()


class FeatureStore(AnswerStore):
    """A finished store of one entry of `cache.features`: tensors of the teacher's features for each (view, sample).

    `views` and `samples` are its size, `tensors` the shapes of a sample's named tensors, `attributes` describe their origin.
    Open one with `FeatureStore.open`.
    """

    kind: ClassVar[str] = "store of features"
    command: ClassVar[str] = "cache-features"
    reads: ClassVar[tuple[type, ...]] = (Tensors,)
    encoding: Tensors

    def __repr__(self) -> str:
        made = self.attributes
        return (
            f"FeatureStore({self.url!r}: {counted(self.views, 'view')} x {self.samples} samples, {', '.join(self.tensors)}, "
            f"teacher {made.teacher.name!r}, {made.dataset.name!r})"
        )

    @property
    def entry(self) -> str:
        """The entry of `cache.features`."""
        assert self.attributes.asked is not None  # by `plan_and_encoding`
        return self.attributes.asked.entry

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each named tensor of a sample."""
        return {one.name: one.shape for one in self.encoding.tensors}

    def features(self, view: int) -> dict[str, NDArray[Any]]:
        """The named tensors (N, ...) of one view: float16 or float32, bits as uint8; raises InputError, IndexError."""
        return {name: one.numpy() for name, one in self.encoding.decode(as_tensors(self.stored(view))).items()}

    def lookup(self, views: NDArray[np.integer[Any]], samples: NDArray[np.integer[Any]]) -> dict[str, NDArray[Any]]:
        """The named tensors (B, ...) of (view, sample) pairs, both (B,); reads each distinct view once."""
        return {name: one.numpy() for name, one in self.encoding.decode(self.rows(views, samples)).items()}


def read_manifest(store: Store, where: object, command: str = "cache-logits NAME") -> bytes:
    """Read `manifest.json`; raises InputError if there is no finished store."""
    content = read_document(store, MANIFEST)
    if content is not None:
        return content
    if not (keys(store) if can_list(store) else get(store, "zarr.json", 1)):
        raise InputError(f"{where}: no such store; run `prepkd {command}`")
    raise InputError(f"{where}: no {MANIFEST}, so there is no finished store; run `prepkd {command}` again")


def check_manifest(store: CheckedStore, layout: Layout) -> None:
    """Refuse a manifest that lists other files than the layout's; raises InputError."""
    manifest, where = store.manifest, store.where
    # A false number of views is not enumerated: the search ends at the first key that is not in the manifest.
    if missing := next((key for key in itertools.chain([SUMMARY], layout.all_keys()) if key not in manifest), None):
        raise InputError(f"{where}: {missing} is not in {MANIFEST}; run {store.command}")
    if len(manifest) > layout.files + 1:
        other = min(manifest.keys() - {*layout.all_keys(), SUMMARY})
        raise InputError(f"{where}: {MANIFEST} lists {word(other)}, which is no file of this store; {store.remedy}")


def _read_listed(store: CheckedStore, key: str) -> bytes:
    """Read a file that the manifest must list; raises InputError."""
    content = get(store, key)
    if content is None:
        raise InputError(f"{store.where}: {key} is not in {MANIFEST}; run {store.command}")
    return content


def _kind(encoding: Encoding) -> type[AnswerStore]:
    return next(kind for kind in (LogitStore, FeatureStore) if isinstance(encoding, kind.reads))
