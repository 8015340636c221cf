"""A store's description and completeness; its logits are not read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.sync import sync

from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.attributes import MALFORMED, Attributes, plan_and_encoding, read_attributes
from prepkd.store.layout import MANIFEST, Layout, open_array
from prepkd.store.place import exists, is_remote, keys, open_place


@dataclass(frozen=True)
class ChunkCount:
    """How many chunks of logits a store holds, of how many."""

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

    `views_there` are the complete views; `weights_from` is the origin of the teacher's weights if they were given.
    """

    store: str
    finished: bool
    views: int
    samples: int
    classes: int
    chunk_samples: int
    chunks: ChunkCount
    views_there: list[int]
    bytes: int
    files: int
    bytes_per_row: BytesPerRow
    attributes: Attributes
    weights_from: dict[str, Any] | None = None


def read_facts(url: str | Path) -> tuple[StoreFacts, LogitStore | None]:
    """Read a store's facts and open it for reading; the store is None if it is unfinished.

    Raises InputError if there is no store, or one that is damaged or of another format.
    """
    place = open_place(url)
    if not is_remote(url) and not Path(url).is_dir():
        raise InputError(f"{url}: no such store; run `prepkd cache-logits NAME`")
    try:
        if exists(place, MANIFEST):
            store = LogitStore.open(url)
            return _facts(store.url, place, store.attributes, store.layout, finished=True), store
        attributes, layout = _description(str(url), place)
        return _facts(str(url), place, attributes, layout, finished=False), None
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from None


def _description(where: str, place: Store) -> tuple[Attributes, Layout]:
    """The attributes and the layout of a store without manifest; raises InputError."""
    if not exists(place, "zarr.json"):
        raise InputError(f"{where}: neither {MANIFEST} nor zarr.json, so there is no logit store; expected one")
    try:
        group = zarr.open_group(place, mode="r", zarr_format=3)
        stored: Any = group.attrs.asdict()["prepkd"]
        attributes = read_attributes(stored, where)
        plan, encoding = plan_and_encoding(attributes, where)
        return attributes, Layout(plan, encoding, int(open_array(group, "logits").chunks[1]))
    except InputError:
        raise
    except (*MALFORMED, FileNotFoundError) as error:
        raise InputError(f"{where}: not a logit store ({type(error).__name__}: {error})") from None


def _facts(where: str, place: Store, attributes: Attributes, layout: Layout, *, finished: bool) -> StoreFacts:
    files = keys(place)
    there = committed(layout, files)
    lengths = np.array([layout.length(chunk) for chunk in range(layout.chunks)])
    rows, size = int((there * lengths).sum()), int(sync(place.getsize_prefix("")))
    stated = attributes.measured.bytes_per_row if attributes.measured else None
    return StoreFacts(
        store=where,
        finished=finished,
        views=layout.plan.views,
        samples=layout.plan.samples,
        classes=layout.encoding.classes,
        chunk_samples=layout.chunk,
        chunks=ChunkCount(int(there.sum()), there.size),
        views_there=np.flatnonzero(there.all(axis=1)).tolist(),
        bytes=size,
        files=len(files),
        bytes_per_row=BytesPerRow(stated, size / rows if rows else None),
        attributes=attributes,
    )


def committed(layout: Layout, files: set[str]) -> NDArray[np.bool_]:
    """Whether each chunk has its commit record, the logits file, bool (views, chunks); the files are not read."""
    pairs = [
        [layout.keys(view, chunk)["logits"] in files for chunk in range(layout.chunks)]
        for view in range(layout.plan.views)
    ]
    return np.array(pairs)
