"""Write a store chunk by chunk; resumable, committed by its manifest."""

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor
from zarr.abc.store import Store

from prepkd.errors import InputError, UnreachableError
from prepkd.runtime.allocator import return_freed_memory
from prepkd.runtime.files import json_bytes
from prepkd.store.attributes import Attributes
from prepkd.store.claims import clear_claims
from prepkd.store.documents import differences, parse_attributes, parse_chunk_length, read_document
from prepkd.store.durable import DurableStore
from prepkd.store.encodings import ArraySpec, LogitEncoding, Tensors
from prepkd.store.layout import (
    MANIFEST,
    PIPELINE,
    READING_THREADS,
    SUMMARY,
    Layout,
    description_files,
    manifest_of,
    open_array,
)
from prepkd.store.ownership import clear_store
from prepkd.store.place import exists, put
from prepkd.store.remote import RemoteStore
from prepkd.store.summary import Labels, Ranges, Summary, TeacherError


class StoreWriter:
    """Writer of an unfinished store; it resumes from the chunks that an earlier writer left.

    `where` names the place in messages. Raises InputError if the place holds a store of other attributes, or foreign files.
    """

    def __init__(self, store: Store, layout: Layout, attributes: Attributes, where: object) -> None:
        self.store, self.layout, self.where = store, layout, where
        if not _has_descriptions(store, layout, attributes):
            # In a bucket another worker may be writing the descriptions right now; no chunk is written before that.
            clear_store(store, where, unless=description_files(layout, attributes))
            repair_descriptions(store, layout, attributes)
        self.group = zarr.open_group(store, mode="r+", zarr_format=3)
        found: Any = self.group.attrs.asdict().get("prepkd")
        identity = {"format": attributes.format, "fingerprints": attributes.fingerprints}
        same = isinstance(found, dict) and all(found.get(key) == value for key, value in identity.items())
        if not same or open_array(self.group, layout.encoding.commit).chunks[1] != layout.chunk:
            raise InputError(f"{where}: holds another store's chunks; remove it and run again")
        self.arrays = {name: open_array(self.group, name) for name in layout.fields}

    def done(self, view: int, chunk: int) -> bool:
        """Return whether a chunk is finished: its commit record, written last, exists, and all its arrays can be read."""
        return self._finished(view, chunk) is not None

    def committed(self, view: int, chunk: int) -> bool:
        """Return whether a chunk's commit record exists; the chunk is not read."""
        return exists(self.store, self.layout.keys(view, chunk)[self.layout.encoding.commit])

    def pending(self) -> Iterator[tuple[int, int]]:
        """The unfinished (view, chunk) pairs, in order."""
        return (part for part in self.parts() if not self.done(*part))

    def parts(self) -> Iterator[tuple[int, int]]:
        """All (view, chunk) pairs, in order."""
        return itertools.product(range(self.layout.plan.views), range(self.layout.chunks))

    def write(self, view: int, chunk: int, arrays: Mapping[str, Tensor | NDArray[Any]]) -> None:
        """Write one chunk, the encoding's arrays (n, *width), with the commit record last.

        Raises InputError for an array of another shape.
        """
        samples = self.layout.slice(chunk)
        rows = self.layout.plan.parameters(view, samples)
        with zarr.config.set({"codec_pipeline.path": PIPELINE}):
            for name, field in self.layout.fields.items():
                given = rows if name == "params" else arrays[name]
                array = (given.cpu().numpy() if isinstance(given, Tensor) else given).astype(field.dtype, copy=False)
                expected = (self.layout.length(chunk), *field.width)
                if array.shape != expected:  # Zarr would cut or repeat it
                    raise InputError(
                        f"{self.where}: {name} of view {view}, chunk {chunk} has shape {array.shape}; expected {expected}"
                    )
                # In the chunk's own shape, which saves Zarr a copy.
                self.arrays[name][view : view + 1, samples] = array[None]

    def finish(self, labels: NDArray[np.int64] | Labels | None = None) -> dict[str, Any]:
        """Re-read every chunk, write the summary and then the manifest; return the summary. Idempotent.

        `labels` are those of all samples, or a function of (view, samples); only logits need them. Raises InputError if a chunk
        is not finished.
        """
        plan, kind = self.layout.plan, self._summary(labels)
        return_freed_memory()  # of the teacher's pass
        with ThreadPoolExecutor(READING_THREADS) as pool:  # hashing, most of the work, releases the GIL
            figures = np.stack(list(pool.map(lambda part: self._read_back(part[0], part[1], kind), self.parts())))
        summary = kind.of_store(figures.reshape(plan.views, self.layout.chunks, *figures.shape[1:]), plan.samples)
        put(self.store, SUMMARY, json_bytes(summary))
        if isinstance(self.store, DurableStore):
            self.store.remove_partial()
        if isinstance(self.store, RemoteStore):
            clear_claims(self.store)
        put(self.store, MANIFEST, json_bytes(manifest_of(self.store, self.layout)))
        return summary

    def _summary(self, labels: NDArray[np.int64] | Labels | None) -> Summary:
        encoding = self.layout.encoding
        if isinstance(encoding, Tensors):
            return Ranges(encoding)
        assert isinstance(encoding, LogitEncoding) and labels is not None
        return TeacherError(encoding, labels if callable(labels) else partial(_labels, torch.from_numpy(labels)))

    def _read_back(self, view: int, chunk: int, summary: Summary) -> NDArray[Any]:
        """A finished chunk's figure in the summary; raises InputError if it is not finished."""
        stored = self._finished(view, chunk)
        if stored is None:
            raise InputError(f"{self.where}: view {view}, chunk {chunk} is not finished; run again to resume")
        return summary.of_chunk(stored, view, self.layout.slice(chunk))

    def _finished(self, view: int, chunk: int) -> dict[str, NDArray[Any]] | None:
        """A finished chunk as stored; None if one of its files is missing, damaged or of another view.

        Raises InputError or OSError if a file cannot be read, which says nothing about its content.
        """
        # Checked first: Zarr reads a missing file as the fill value, in a bucket after downloading the other arrays.
        if not self.committed(view, chunk):
            return None
        part = view, self.layout.slice(chunk)
        try:
            stored = {name: np.asarray(array[part]) for name, array in self.arrays.items()}
        except InputError:
            raise
        # A wrong checksum, or a file that is cut short or does not decompress.
        except (ValueError, RuntimeError):
            return None
        if any(_has_missing(stored[name], field) for name, field in self.layout.fields.items()):
            return None
        if "params" in stored and not np.array_equal(stored["params"], self.layout.plan.parameters(*part)):
            return None
        return stored


def _labels(labels: Tensor, view: int, part: slice) -> Tensor:
    """The labels of samples, equal in every view."""
    return labels[part]


def _has_descriptions(store: Store, layout: Layout, attributes: Attributes) -> bool:
    """Return whether a store has all its descriptions, which are written before the first chunk."""
    try:
        keys = ("zarr.json", *(f"{name}/zarr.json" for name in layout.fields))
        group, *arrays = (read_document(store, key) or b"" for key in keys)
        found, chunk = parse_attributes(group, ""), parse_chunk_length(arrays[-1], "zarr.json", "")
        if not found.same_store(attributes) or chunk != layout.chunk:
            return True  # another store's: the caller refuses it
        if found.sections != attributes.sections:
            return False
        return not any(
            any(differences(text, name, layout, "")) for name, text in zip(layout.fields, arrays, strict=True)
        )
    except UnreachableError:  # the caller would clear the store
        raise
    except InputError:  # damaged, or half written by a place without atomic writes
        return False


def repair_descriptions(store: Store, layout: Layout, attributes: Attributes) -> list[str]:
    """Write each missing or damaged description of a store; return the keys of the damaged ones.

    Only for a place whose chunks are known to be this store's, as in scratch, whose folder's name identifies the store.
    """
    damaged = []
    for key, content in description_files(layout, attributes).items():
        found = read_document(store, key)
        if found != content:
            put(store, key, content)
            damaged += [] if found is None else [key]
    return damaged


def _has_missing(array: NDArray[Any], field: ArraySpec) -> bool:
    """Return whether an array holds the fill value, or any NaN if the fill value is NaN."""
    if not np.isnan(field.fill):
        return bool((array == field.fill).any())
    # By bits, since NumPy's isnan takes longer than hashing 50,000 rows of float16. A NaN is above infinity.
    integer = np.dtype(f"u{field.dtype.itemsize}")
    magnitude = np.iinfo(integer).max >> 1
    infinity = field.dtype.type(np.inf).view(integer)
    return bool((array.view(integer) & integer.type(magnitude)).max() > infinity)
