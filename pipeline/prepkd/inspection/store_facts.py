"""A store's description and completeness; its logits are not read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from prepkd.errors import InputError, UnreachableError
from prepkd.provenance.descent import Chain
from prepkd.runtime.services import is_remote
from prepkd.store import AnswerStore
from prepkd.store.attributes import Attributes, plan_and_encoding, store_command
from prepkd.store.claims import CLAIM
from prepkd.store.documents import parse_attributes, parse_chunk_length, read_document
from prepkd.store.encodings import Tensors
from prepkd.store.layout import MANIFEST, Layout
from prepkd.store.place import can_list, open_place, sizes
from prepkd.store.reader import read_manifest


@dataclass(frozen=True)
class ChunkCount:
    """The number of chunks in a store, and the number that a finished one has."""

    there: int
    total: int


@dataclass(frozen=True)
class BytesPerRow:
    """Bytes per (view, sample): as stated in the attributes, and as found on disk; None if unknown."""

    stated: float | None
    on_disk: float | None


@dataclass(frozen=True)
class StoreFacts:
    """A store's place, size, completeness and attributes.

    `views_there` are the complete views; `bytes` is None for a web server, which lists no sizes; `manifest_sha256` is None for
    an unfinished store; `weights_from` is the origin of the teacher's weights if they were given, `distilled_from` its chain of
    teachers, the nearest first.
    """

    store: str
    finished: bool
    views: int
    samples: int
    classes: int
    chunk_samples: int
    chunks: ChunkCount
    views_there: list[int]
    bytes: int | None
    files: int
    bytes_per_row: BytesPerRow
    attributes: Attributes
    manifest_sha256: str | None = None
    weights_from: dict[str, Any] | None = None
    distilled_from: Chain = field(default_factory=list)


def read_facts(url: str | Path) -> tuple[StoreFacts, AnswerStore | None]:
    """Read a store's facts and open it for reading; the store is None if it is unfinished.

    Raises InputError if there is no store, or one that is damaged or of another format.
    """
    place = open_place(url)
    if not is_remote(url) and not Path(url).is_dir():
        raise InputError(f"{url}: no such store; run `prepkd cache-logits NAME`")
    try:
        if read_document(place, MANIFEST) is not None:
            store = AnswerStore.open(url)
            return _finished(store), store
        return _unfinished(str(url), place), None
    except OSError as error:
        raise UnreachableError(f"{url}: cannot be read: {error}") from None


def _finished(store: AnswerStore) -> StoreFacts:
    layout, place = store.layout, store.store.place
    listed = sizes(place)
    if listed is not None:
        return _facts(store.url, listed, store.attributes, layout, store.manifest_sha256)
    files = {
        key: None
        for key in store.store.manifest
        if (part := layout.parse_chunk_key(key)) is None or part[1] in store.present
    }
    return _facts(store.url, files | {MANIFEST: None}, store.attributes, layout, store.manifest_sha256)


def _unfinished(where: str, place: Store) -> StoreFacts:
    """The facts of a store without manifest; raises InputError."""
    if not can_list(place):  # without a listing, the existing files are unknown
        read_manifest(place, where)
    group = read_document(place, "zarr.json")
    if group is None:
        raise InputError(f"{where}: neither {MANIFEST} nor zarr.json, so it is not a store of prepkd")
    attributes = parse_attributes(group, where)
    plan, encoding = plan_and_encoding(attributes, where)
    key = f"{encoding.commit}/zarr.json"
    array = read_document(place, key)
    if array is None:
        raise InputError(f"{where}: {key} is missing; run {store_command(attributes.asked)} again")
    try:
        layout = Layout(plan, encoding, parse_chunk_length(array, key, where))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    files = {key: size for key, size in (sizes(place) or {}).items() if not CLAIM.fullmatch(key)}
    return _facts(where, files, attributes, layout, None)


def _facts(
    where: str, files: Mapping[str, int | None], attributes: Attributes, layout: Layout, manifest_sha256: str | None
) -> StoreFacts:
    # Counted from the files: a description may promise any number of views.
    there = [part for key in files if (part := layout.parse_chunk_key(key)) and part[0] == layout.encoding.commit]
    rows = sum(layout.length(chunk) for _, _, chunk in there)
    size = None if None in files.values() else sum(size or 0 for size in files.values())
    stated = attributes.measured.bytes_per_row if attributes.measured else None
    if isinstance(layout.encoding, Tensors):  # not compressed
        stated = float(layout.bytes_per_row)
    chunks = Counter(view for _, view, _ in there)
    return StoreFacts(
        store=where,
        finished=manifest_sha256 is not None,
        views=layout.plan.views,
        samples=layout.plan.samples,
        classes=attributes.dataset.classes,
        chunk_samples=layout.chunk,
        chunks=ChunkCount(len(there), layout.plan.views * layout.chunks),
        views_there=sorted(view for view, count in chunks.items() if count == layout.chunks),
        bytes=size,
        files=len(files),
        bytes_per_row=BytesPerRow(stated, size / rows if rows and size is not None else None),
        attributes=attributes,
        manifest_sha256=manifest_sha256,
    )
