"""What a store looks like on disk: arrays, chunks, attributes, manifest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, Crc32cCodec

from prepkd.files import canonical_json, file_sha256, fingerprint
from prepkd.views import ViewPlan

FORMAT = 1
MANIFEST = "manifest.json"
SUMMARY = "summary.json"
# The Rust pipeline writes in place; this one hands whole chunks to the store, which renames them.
PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@dataclass(frozen=True)
class Layout:
    """The shapes that follow from a plan, a class count and a chunk length (samples)."""

    plan: ViewPlan
    classes: int
    chunk: int

    @property
    def chunks(self) -> int:
        """How many chunks hold one view."""
        return -(-self.plan.samples // self.chunk)

    def slice(self, chunk: int) -> slice:
        """The samples of one chunk."""
        return slice(chunk * self.chunk, min((chunk + 1) * self.chunk, self.plan.samples))

    def length(self, chunk: int) -> int:
        """How many samples one chunk holds."""
        return min(self.chunk, self.plan.samples - chunk * self.chunk)

    def arrays(self) -> dict[str, dict[str, Any]]:
        """Shape, chunk shape, dtype and fill value of each array; a fill value is never a value."""
        views, samples, width = self.plan.views, self.plan.samples, len(self.plan.ranges)
        integer = self.plan.dtype
        arrays: dict[str, dict[str, Any]] = {
            "logits": {"shape": (views, samples, self.classes), "dtype": np.dtype("float16"), "fill": np.nan},
            "row_max": {"shape": (views, samples), "dtype": np.dtype("float32"), "fill": np.nan},
        }
        if width:
            minimum = int(np.iinfo(integer).min)
            arrays["params"] = {"shape": (views, samples, width), "dtype": integer, "fill": minimum}
        for array in arrays.values():
            array["chunks"] = (1, self.chunk, *array["shape"][2:])
        return arrays

    @property
    def bytes_per_row(self) -> int:
        """Bytes that one (view, sample) takes, all arrays counted."""
        width = len(self.plan.ranges)
        return 2 * self.classes + 4 + width * self.plan.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all chunks: padded to whole chunks, 4 of checksum each."""
        chunks = self.plan.views * self.chunks
        return chunks * (self.chunk * self.bytes_per_row + 4 * len(self.arrays()))


def chunk_length(samples: int, chunk: int, batch_size: int) -> int:
    """The chunk's length in samples: whole teacher batches, up to `chunk`, no longer than a view needs."""
    batches = max(1, min(chunk // batch_size, -(-samples // batch_size)))
    return min(batches * batch_size, samples)


def create(store: Store, layout: Layout, attributes: dict[str, Any]) -> zarr.Group:
    """Create an empty store: a group with sorted attributes and its arrays; crc32c, no compression, no sharding."""
    group = zarr.create_group(store, attributes={"prepkd": json.loads(canonical_json(attributes))})
    for name, array in sorted(layout.arrays().items()):
        group.create_array(
            name,
            shape=array["shape"],
            chunks=array["chunks"],
            dtype=array["dtype"],
            fill_value=array["fill"],
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
    return group


def open_array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    """An array that also writes chunks that equal the fill value; Zarr does not persist that setting."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array.with_config({"write_empty_chunks": True})


def with_fingerprints(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes with the fingerprint of each section, so that a mismatch can be named."""
    return attributes | {"fingerprints": {key: fingerprint(value) for key, value in sorted(attributes.items())}}


def manifest_of(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a store but the manifest and temporary files, sorted."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and not p.name.endswith(".partial"))
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(files)}


def wrong_share(offsets: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The share of rows (N, K) whose label is not at the maximum: what KA will correct."""
    return float((offsets[np.arange(len(labels)), labels] < 0).mean())
