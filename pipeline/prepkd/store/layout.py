"""The layout of a store on disk: arrays, chunks, attributes, manifest."""

import hashlib
import json
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from prepkd.runtime.files import canonical_json
from prepkd.store.attributes import Attributes
from prepkd.store.durable import DurableStore
from prepkd.store.encodings import Encoding, Field
from prepkd.store.place import get
from prepkd.views import ViewPlan

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
WORKERS = 4  # threads that read chunks back; each holds one in memory
PARTIAL = "partial.json"  # marks a copy of some views only
# The Rust pipeline writes in place; this one passes complete chunks to the store, which renames them.
PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@dataclass(frozen=True)
class Layout:
    """The arrays that follow from a plan, an encoding and a chunk length (samples)."""

    plan: ViewPlan
    encoding: Encoding
    chunk: int

    @property
    def chunks(self) -> int:
        """The number of chunks per view."""
        return -(-self.plan.samples // self.chunk)

    def slice(self, chunk: int) -> slice:
        """The samples of one chunk."""
        return slice(chunk * self.chunk, min((chunk + 1) * self.chunk, self.plan.samples))

    def length(self, chunk: int) -> int:
        """The number of samples in one chunk."""
        return min(self.chunk, self.plan.samples - chunk * self.chunk)

    @property
    def fields(self) -> dict[str, Field]:
        """The arrays by name, in the order in which a chunk's files are written: `logits` last."""
        fields = dict(self.encoding.fields)
        logits = fields.pop("logits")
        if self.plan.ranges:
            minimum = int(np.iinfo(self.plan.dtype).min)
            fields = {"params": Field((len(self.plan.ranges),), self.plan.dtype, minimum), **fields}
        return fields | {"logits": logits}

    def keys(self, view: int, chunk: int) -> dict[str, str]:
        """The file of one chunk per array, relative to the store."""
        return {name: f"{name}/c/{view}/{chunk}" + "/0" * len(field.width) for name, field in self.fields.items()}

    def all_keys(self) -> Iterator[str]:
        """Every file of a finished store except summary and manifest."""
        yield "zarr.json"
        yield from (f"{name}/zarr.json" for name in self.fields)
        for view in range(self.plan.views):
            for chunk in range(self.chunks):
                yield from self.keys(view, chunk).values()

    def views_in(self, files: Set[str]) -> list[int]:
        """The views with all of their files among `files`."""
        chunks = range(self.chunks)
        return [v for v in range(self.plan.views) if all(files >= set(self.keys(v, c).values()) for c in chunks)]

    @property
    def bytes_per_row(self) -> int:
        """Bytes per (view, sample) before compression, over all arrays."""
        return sum(field.bytes_per_row for field in self.fields.values())

    @property
    def bytes(self) -> int:
        """Bytes of all chunks before compression: padded to full length, plus 4 bytes of checksum each."""
        chunks = self.plan.views * self.chunks
        return chunks * (self.chunk * self.bytes_per_row + 4 * len(self.fields))


def chunk_length(samples: int, chunk: int, batch_size: int) -> int:
    """The chunk's length in samples: whole teacher batches, at most `chunk` and at most one view."""
    batches = max(1, min(chunk // batch_size, -(-samples // batch_size)))
    return min(batches * batch_size, samples)


def create(store: Store, layout: Layout, attributes: Attributes) -> zarr.Group:
    """Create an empty store: a group with sorted attributes and its arrays; crc32c, no sharding."""
    group = zarr.create_group(store, attributes={"prepkd": json.loads(canonical_json(attributes.model_dump()))})
    shape = layout.plan.views, layout.plan.samples
    for name, field in sorted(layout.fields.items()):
        size = field.dtype.itemsize
        blosc = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=size)
        group.create_array(
            name,
            shape=(*shape, *field.width),
            chunks=(1, layout.chunk, *field.width),
            dtype=field.dtype,
            fill_value=field.fill,
            serializer=BytesCodec(endian="little"),
            compressors=[blosc, Crc32cCodec()] if field.compressed else [Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
    return group


def open_array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    """Open an array so that chunks equal to the fill value are written too; Zarr does not persist that setting."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array.with_config({"write_empty_chunks": True})


def manifest_of(store: Store, layout: Layout) -> dict[str, str]:
    """Relative path -> SHA-256 of every file except the manifest, sorted; reads the files that it did not write."""

    def digest(key: str) -> str:
        if isinstance(store, DurableStore) and (known := store.written(key)):
            return known
        content = get(store, key)
        assert content is not None, key  # the writer has just read it back
        return hashlib.sha256(content).hexdigest()

    keys = sorted([*layout.all_keys(), SUMMARY])
    with ThreadPoolExecutor(WORKERS) as pool:  # hashing releases the GIL
        return dict(zip(keys, pool.map(digest, keys), strict=True))
