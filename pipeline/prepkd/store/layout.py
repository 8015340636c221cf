"""The layout of a store on disk: arrays, chunks, attributes, manifest."""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from prepkd.errors import InputError
from prepkd.runtime.files import canonical_json, sha256
from prepkd.store.attributes import Attributes
from prepkd.store.durable import DurableStore
from prepkd.store.encodings import ArraySpec, Encoding
from prepkd.store.place import get
from prepkd.views import ViewPlan

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
READING_THREADS = 4  # read the chunks back, each with one in memory
PARTIAL = "partial.json"  # marks a copy of some views only
CLAIMS = "claims"  # the folder of the workers' claims while a store is written
# The Rust pipeline writes in place; this one passes complete chunks to the store, which renames them.
PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"
MAX_FILES = 2**19  # a store's manifest, of about 100 bytes per file, is read whole
MAX_CHUNK_BYTES = 2**32  # bytes of a chunk in memory
CHECKSUM = 4  # bytes at the end of a chunk's file
BLOSC_HEADER = 16  # bytes; also Blosc's largest overhead on incompressible data


@dataclass(frozen=True)
class Layout:
    """The arrays that follow from a plan, an encoding and a chunk length (samples).

    Raises InputError for a chunk of more samples than the plan has, or of more than 4 GiB, and for more than 2**19 files.
    """

    plan: ViewPlan
    encoding: Encoding
    chunk: int

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= self.plan.samples:
            raise InputError(f"chunks have {self.chunk:,} samples; expected 1 to {self.plan.samples:,}")
        largest = self.chunk * max(field.bytes_per_row for field in self.fields.values())
        if largest > MAX_CHUNK_BYTES:
            raise InputError(
                f"a chunk of {self.chunk:,} samples has {largest:,} bytes; expected <= {MAX_CHUNK_BYTES:,}"
            )
        if self.files > MAX_FILES:
            raise InputError(
                f"{self.plan.views:,} views in chunks of {self.chunk:,} samples are {self.files:,} files; expected <= "
                f"{MAX_FILES:,}: larger chunks, or fewer views"
            )

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

    @cached_property
    def fields(self) -> dict[str, ArraySpec]:
        """The arrays by name, in the order in which a chunk's files are written: the commit record last."""
        fields = dict(self.encoding.fields)
        last = fields.pop(self.encoding.commit)
        if self.plan.ranges:
            minimum = int(np.iinfo(self.plan.dtype).min)
            fields = {"params": ArraySpec((len(self.plan.ranges),), self.plan.dtype, minimum), **fields}
        return fields | {self.encoding.commit: last}

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

    @property
    def files(self) -> int:
        """The number of files of a finished store except summary and manifest."""
        return 1 + len(self.fields) * (1 + self.plan.views * self.chunks)

    def parse_chunk_key(self, key: str) -> tuple[str, int, int] | None:
        """The array, view and chunk of a chunk's file; None for every other path."""
        name, _, place = key.partition("/c/")
        numbers = place.split("/")
        field = self.fields.get(name)
        if field is None or len(numbers) != 2 + len(field.width) or any(one != "0" for one in numbers[2:]):
            return None
        if not all(one.isdecimal() and len(one) <= 10 and str(int(one)) == one for one in numbers):
            return None
        view, chunk = int(numbers[0]), int(numbers[1])
        return (name, view, chunk) if view < self.plan.views and chunk < self.chunks else None

    def views_in(self, files: Iterable[str]) -> list[int]:
        """The views with all of their files among `files`."""
        found = Counter(part[1] for key in files if (part := self.parse_chunk_key(key)))
        return sorted(view for view, count in found.items() if count == self.chunks * len(self.fields))

    def invalid_sizes(self, sizes: Mapping[str, int]) -> dict[int, list[str]]:
        """Return, by view, the chunk files of impossible size; `sizes` is bytes by path."""
        limits = {name: self.file_sizes(name) for name in self.fields}
        found: dict[int, list[str]] = {}
        for key, size in sizes.items():
            if (part := self.parse_chunk_key(key)) and not limits[part[0]][0] <= size <= limits[part[0]][1]:
                found.setdefault(part[1], []).append(key)
        return found

    def description(self, name: str) -> dict[str, Any]:
        """The content of an array's `zarr.json` in Zarr format 3, without empty settings."""
        field, endian = self.fields[name], {"configuration": {"endian": "little"}}
        size = field.dtype.itemsize
        blosc = {"typesize": size, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [self.plan.views, self.plan.samples, *field.width],
            "data_type": field.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, self.chunk, *field.width]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if np.isnan(field.fill) else int(field.fill),
            "codecs": [
                {"name": "bytes"} | (endian if size > 1 else {}),
                *([{"name": "blosc", "configuration": blosc}] if field.compressed else []),
                {"name": "crc32c"},
            ],
        }

    def metadata(self, name: str) -> ArrayV3Metadata:
        """Zarr's metadata of an array."""
        return ArrayV3Metadata.from_dict(self.description(name))

    def array(self, store: Store, name: str) -> "zarr.Array[Any]":
        """Open an array of a store with the layout's description; its stored `zarr.json` is not read."""
        return zarr.Array(zarr.AsyncArray(self.metadata(name), StorePath(store, name)))

    def file_sizes(self, name: str) -> tuple[int, int]:
        """The smallest and the largest valid size of an array's chunk file, in bytes."""
        field = self.fields[name]
        size = self.chunk * field.bytes_per_row + CHECKSUM
        return (BLOSC_HEADER + CHECKSUM, size + BLOSC_HEADER) if field.compressed else (size, size)

    def size_problem(self, name: str, content: bytes | bytearray | memoryview) -> str:
        """Describe a wrong file size, or wrong sizes in a chunk's Blosc header; '' if all are right. Decompresses nothing."""
        least, most = self.file_sizes(name)
        if not least <= len(content) <= most:
            return f"it is {len(content):,} bytes, expected {least:,}{f' to {most:,}' if most > least else ''}"
        field = self.fields[name]
        if field.compressed:
            wanted = self.chunk * field.bytes_per_row, len(content) - CHECKSUM
            inflated, _, deflated = struct.unpack_from("<III", content, 4)  # of Blosc's header
            if (inflated, deflated) != wanted:
                return f"its header says {inflated:,} bytes in {deflated:,}, expected {wanted[0]:,} in {wanted[1]:,}"
        return ""

    def value_problem(self, name: str, chunk: int, content: bytes | bytearray | memoryview) -> str:
        """Describe invalid values in a chunk's file of valid size; '' if there are none, or if the array is compressed."""
        field = self.fields[name]
        if field.compressed:
            return ""
        rows = np.frombuffer(content, field.dtype.newbyteorder("<"), self.chunk * math.prod(field.width))
        rows = rows.reshape(self.chunk, *field.width)
        rows = rows[: self.length(chunk)]  # the rest of the last chunk is the fill value
        return field.problem(rows.astype(field.dtype, copy=False))

    @property
    def bytes_per_row(self) -> int:
        """Bytes per (view, sample) before compression, over all arrays."""
        return sum(field.bytes_per_row for field in self.fields.values())

    @property
    def bytes(self) -> int:
        """Bytes of all chunks before compression."""
        return self.plan.views * self.view_bytes

    @property
    def view_bytes(self) -> int:
        """Bytes of one view's chunks before compression: padded to full length, plus 4 bytes of checksum per file."""
        return self.chunks * (self.chunk * self.bytes_per_row + CHECKSUM * len(self.fields))

    @property
    def compressed(self) -> bool:
        """Whether any array is compressed, so that the store's size depends on the answers."""
        return any(field.compressed for field in self.fields.values())


def chunk_length(samples: int, chunk: int, batch_size: int) -> int:
    """The chunk's length in samples: whole teacher batches, at most `chunk` and at most one view."""
    batches = max(1, min(chunk // batch_size, -(-samples // batch_size)))
    return min(batches * batch_size, samples)


def description_files(layout: Layout, attributes: Attributes) -> dict[str, bytes]:
    """The files of an empty store by path: `zarr.json` of the group, and of each array."""
    group = GroupMetadata(attributes={"prepkd": json.loads(canonical_json(attributes.model_dump()))})
    described = {"zarr.json": group} | {f"{name}/zarr.json": layout.metadata(name) for name in layout.fields}
    prototype = default_buffer_prototype()
    return {key: one.to_buffer_dict(prototype)["zarr.json"].to_bytes() for key, one in described.items()}


def open_array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    """Open an array so that chunks equal to the fill value are written too; Zarr does not persist that setting."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array.with_config({"write_empty_chunks": True})


def manifest_of(store: Store, layout: Layout) -> dict[str, str]:
    """Relative path -> SHA-256 of every file except the manifest, sorted; files that `store` did not write itself are read."""

    def digest(key: str) -> str:
        if isinstance(store, DurableStore) and (known := store.written(key)):
            return known
        content = get(store, key)
        assert content is not None, key  # the writer has just read it back
        return sha256(content)

    keys = sorted([*layout.all_keys(), SUMMARY])
    with ThreadPoolExecutor(READING_THREADS) as pool:  # hashing releases the GIL
        return dict(zip(keys, pool.map(digest, keys), strict=True))
