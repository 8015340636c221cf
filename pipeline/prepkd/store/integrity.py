"""Find the damaged files of a store: every file is checked, and each damaged one is named."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import Buffer as CPUBuffer
from zarr.storage import MemoryStore

from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint
from prepkd.store.attributes import FORMAT, MALFORMED, Attributes, check_format, plan_and_encoding, read_attributes
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY, Layout, create, open_array
from prepkd.store.place import get, keys, open_place
from prepkd.store.reader import difference

OF_AN_ARRAY = re.compile(r"[^/]+/(zarr\.json|c/\d+(/\d+)+)")
# A chunk that fails its checksum may raise OSError as well.
BROKEN = (*MALFORMED, OSError)


@dataclass(frozen=True)
class Damage:
    """One damaged file: its array ('' for files of the whole store), its path in the store, and the problem."""

    array: str
    chunk: str
    problem: str


def damages(url: str | Path | Store, **options: Any) -> list[Damage]:
    """List the damaged files of a store, the manifest first, then by path; `options` go to fsspec.

    Each file is compared with the manifest. If the description can be trusted, every chunk is decoded too, and its parameters
    are compared with the plan's. Raises InputError only if there is no store, or it cannot be read.
    """
    store = url if isinstance(url, Store) else open_place(url, **options)
    try:
        files = keys(store)
        listing, description, logits = (get(store, key) for key in (MANIFEST, "zarr.json", "logits/zarr.json"))
    except FileNotFoundError:  # fsspec's answer for a folder that does not exist
        files = set()
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from None
    if not files:
        raise InputError(f"{url}: no such store; run `prepkd cache-logits NAME`")
    manifest, problem = _manifest(listing)
    if description is not None and manifest.get("zarr.json") == _sha(description):
        refuse_other_format(description, url)
    expected = None
    # An edited description proves nothing; then the manifest lists the files.
    if all(key not in manifest or manifest[key] == _sha(text) for key, text in _pairs(description, logits)):
        expected = _Expected.of(description, logits)
    needed = {"zarr.json", "logits/zarr.json", SUMMARY} | set(expected.parts if expected else ())
    strays = {key for key in files if OF_AN_ARRAY.fullmatch(key)}
    absent = expected.not_fetched(files, get(store, PARTIAL)) if expected and PARTIAL in files else set()
    found = [Damage("", MANIFEST, problem)] if problem else []
    for key in sorted((needed | strays | set(manifest)) - absent):
        problems = list(_problems(store, key, manifest, expected)) if key in files else ["missing"]
        if problems:
            found.append(Damage(key.partition("/")[0] if "/" in key else "", key, "; ".join(problems)))
    return found


def refuse_other_format(description: bytes, where: object) -> None:
    """Refuse a store of another format, which is not damage; raises InputError."""
    try:
        found = json.loads(description)["attributes"]["prepkd"]["format"]
    except MALFORMED:
        return  # reported as damage later
    if isinstance(found, int):
        check_format(found, where)


class _Expected:
    """The files that a store's description promises, and the required content of each."""

    def __init__(self, attributes: Attributes, layout: Layout) -> None:
        self.layout = layout
        # An empty store of that layout, to decode one chunk at a time even if the real metadata is damaged.
        self.memory: dict[str, Buffer] = {}
        group = create(MemoryStore(self.memory), layout, attributes)
        self.arrays = {name: open_array(group, name) for name in layout.fields}
        # Path -> (array, view, chunk); None instead of the last two for an array's metadata.
        self.parts: dict[str, tuple[str, int, int] | tuple[str, None, None]] = {
            f"{name}/zarr.json": (name, None, None) for name in layout.fields
        }
        for view in range(layout.plan.views):
            for chunk in range(layout.chunks):
                self.parts |= {key: (name, view, chunk) for name, key in layout.keys(view, chunk).items()}

    @classmethod
    def of(cls, description: bytes | None, logits: bytes | None) -> "_Expected | None":
        """Read `zarr.json` and `logits/zarr.json`; None if they describe no readable store."""
        try:
            attributes = json.loads(description or b"")["attributes"]["prepkd"]
            chunk = json.loads(logits or b"")["chunk_grid"]["configuration"]["chunk_shape"][1]
            if attributes["format"] != FORMAT:
                return None
            described = read_attributes(attributes, "zarr.json")
            return cls(described, Layout(*plan_and_encoding(described, "zarr.json"), int(chunk)))
        except BROKEN:
            return None

    def not_fetched(self, files: set[str], partial: bytes | None) -> set[str]:
        """The files of views that a partial copy omits: views without any file here that `partial.json` does not list."""
        try:
            promised = set(json.loads(partial or b"{}").get("views", []))
        except BROKEN:
            promised = set()
        here = {self.parts[key][1] for key in self.parts if key in files} | promised
        return {key for key, (_, view, _) in self.parts.items() if view is not None and view not in here}

    def problems(self, key: str, content: bytes) -> Iterator[str]:
        """The problems in the content of an array's file, apart from the manifest's hash."""
        name, view, chunk = self.parts[key]
        if view is None or chunk is None:
            yield from _metadata(content, self.arrays[name].metadata.to_dict())
            return
        field, part = self.layout.fields[name], self.layout.slice(chunk)
        size = self.layout.chunk * field.bytes_per_row + 4
        if not field.compressed and len(content) != size:
            yield f"it is {len(content)} bytes, expected {size}"
            return
        self.memory[key] = CPUBuffer.from_bytes(content)
        try:
            values = np.asarray(self.arrays[name][view, part])
        except BROKEN as error:
            yield f"it does not decode: {_line(error)}"
            return
        finally:
            del self.memory[key]
        missing = np.isnan(values) if np.isnan(field.fill) else values == field.fill
        if missing.any():
            yield f"{int(missing.sum())} of its values are the fill value, which means missing"
        elif name == "params" and not np.array_equal(values, self.layout.plan.parameters(view, part)):
            yield f"it differs from the plan's parameters of view {view}"


def _problems(store: Store, key: str, manifest: dict[str, str], expected: _Expected | None) -> Iterator[str]:
    try:
        content = get(store, key)
    except OSError as error:
        yield f"it cannot be read: {_line(error)}"
        return
    if content is None:
        yield "missing"
        return
    if expected is not None and "/" in key and key not in expected.parts:
        yield "no file of this store: left by another one"
        return
    if manifest and key not in manifest:
        yield f"not in {MANIFEST}"
    elif manifest and manifest[key] != _sha(content):
        yield _difference(key, content, manifest)
    if key == "zarr.json":
        yield from _attributes(content)
    elif key == SUMMARY:
        yield from _summary(content)
    elif expected is not None and key in expected.parts:
        yield from expected.problems(key, content)
    elif expected is None and key.endswith("/zarr.json"):
        yield from _metadata(content, {})


def _manifest(content: bytes | None) -> tuple[dict[str, str], str]:
    """Path -> SHA-256, and the manifest's problem, '' if it has none."""
    if content is None:
        return {}, "missing: the store is unfinished, or lost it"
    try:
        manifest = json.loads(content)
    except ValueError as error:
        return {}, f"it is no JSON: {_line(error)}"
    if not isinstance(manifest, dict) or not manifest:
        return {}, "it lists no files"
    wrong = [key for key, value in manifest.items() if not re.fullmatch("[0-9a-f]{64}", str(value))]
    return {key: str(value) for key, value in manifest.items()}, f"{wrong[0]} has no SHA-256" if wrong else ""


def _difference(key: str, content: bytes, manifest: dict[str, str]) -> str:
    """Describe how a file differs from the manifest's entry."""
    found = _sha(content)
    where = [other for other, sha in manifest.items() if sha == found]
    if where:
        return f"it holds the bytes of {where[0]}"
    length = f"{len(content)} bytes" if content else "zero bytes"
    return f"{length} with sha256 {difference(found, manifest[key])}"


def _metadata(content: bytes, wanted: Mapping[str, object]) -> Iterator[str]:
    """The wrong fields of an array's `zarr.json`; with an empty `wanted`, only whether it describes an array."""
    single = MemoryStore({"zarr.json": CPUBuffer.from_bytes(content)})
    try:
        found = zarr.open_array(single, mode="r", zarr_format=3).metadata.to_dict()
    except BROKEN as error:
        yield f"it describes no array: {type(error).__name__}: {_line(error)}"
        return
    for field, value in wanted.items():
        if found.get(field) != value:
            yield f"{field} is {found.get(field)}, expected {value}"


def _attributes(content: bytes) -> Iterator[str]:
    try:
        single = MemoryStore({"zarr.json": CPUBuffer.from_bytes(content)})
        attributes: Any = zarr.open_group(single, mode="r", zarr_format=3).attrs.asdict()["prepkd"]
        if attributes["format"] != FORMAT:
            yield f"format is {attributes['format']}, this version of prepkd reads {FORMAT}"
            return
        plan_and_encoding(read_attributes(attributes, "zarr.json"), "zarr.json")
        for name, value in attributes["fingerprints"].items():
            if fingerprint(attributes[name]) != value:
                yield f"fingerprints.{name} is {value[:12]}, but the section's is {fingerprint(attributes[name])[:12]}"
        for name in ("dataset", "encoding", "views"):
            if name not in attributes["fingerprints"]:
                yield f"fingerprints.{name} is missing"
    except InputError as error:
        yield _line(error)
    except BROKEN as error:
        yield f"it describes no logit store: {type(error).__name__}: {_line(error)}"


def _summary(content: bytes) -> Iterator[str]:
    try:
        summary = json.loads(content)
        np.array([summary["teacher_error"], *summary["teacher_error_per_view"]], dtype=float)
    except BROKEN as error:
        yield f"it is no summary: {type(error).__name__}: {_line(error)}"


def _pairs(description: bytes | None, logits: bytes | None) -> Iterator[tuple[str, bytes]]:
    yield "zarr.json", description or b""
    yield "logits/zarr.json", logits or b""


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
