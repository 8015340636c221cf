"""Find the damaged files of a store: every file is checked, and each damaged one is named."""

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import Buffer as CPUBuffer
from zarr.storage import MemoryStore

from prepkd.errors import InputError, UnreachableError, one_line
from prepkd.runtime.files import fingerprint, sha256
from prepkd.store.attributes import MALFORMED, check_format, plan_and_encoding
from prepkd.store.checked import difference
from prepkd.store.documents import (
    LIMITS,
    differences,
    is_web_page,
    parse,
    parse_attributes,
    parse_chunk_length,
    parse_manifest,
    parse_partial,
    parse_summary,
    read_document,
    word,
)
from prepkd.store.encodings import COMMITS
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY, Layout
from prepkd.store.place import can_list, get, keys, open_place

OF_AN_ARRAY = re.compile(r"[a-z_]{1,32}\d{0,2}/(zarr\.json|c/\d+(/\d+)+)")
MAX_UNKNOWN_BYTES = 2**30  # bytes of a chunk's file, if a damaged description leaves its size unknown
# A chunk that fails its checksum may raise OSError as well.
BROKEN = (*MALFORMED, OSError, MemoryError)


@dataclass(frozen=True)
class Damage:
    """One damaged file: its array ('' for files of the whole store), its path in the store, and the problem."""

    array: str
    chunk: str
    problem: str


def damages(url: str | Path | Store, **options: Any) -> list[Damage]:
    """List the damaged files of a store, the manifest first, then by path; `options` go to fsspec.

    Each file is compared with the manifest. If the description can be trusted, every chunk is decoded too, its values are
    checked, and its parameters are compared with the plan's. Raises InputError only if there is no store, or it cannot be read.
    """
    store = url if isinstance(url, Store) else open_place(url, **options)
    try:
        files = keys(store) if can_list(store) else None
        listing, description = (read_document(store, key) for key in (MANIFEST, "zarr.json"))
        manifest, problem = _manifest(listing)
        commit = _commit_description(description, {*(files or ()), *manifest})
        array = read_document(store, commit)
        partial = read_document(store, PARTIAL)
    except OSError as error:
        raise UnreachableError(f"{url}: cannot be read: {error}") from None
    if not files and description is None and listing is None:
        raise InputError(f"{url}: no such store; run `prepkd cache-logits NAME`")
    found = [Damage("", MANIFEST, problem)] if problem else []
    # An edited description proves nothing; the manifest then lists the files.
    described = {"zarr.json": description, commit: array}
    expected, unreadable = None, ""
    if all(key not in manifest or manifest[key] == sha256(text or b"") for key, text in described.items()):
        if description is not None and "zarr.json" in manifest:
            refuse_other_format(description, url)
        expected, unreadable = _Expected.of(description or b"", array or b"")
    here = {*(files or ()), *manifest}
    if expected and expected.layout.files > 2 * len(here) + 10_000:  # too many to enumerate
        found.append(Damage("", "zarr.json", f"it describes {expected.layout.files:,} files, {len(here):,} exist"))
        expected = None
    absent = expected.not_fetched(files, partial) if expected and partial is not None else set()
    needed = {"zarr.json", commit, SUMMARY} | set(expected.layout.all_keys() if expected else ())
    strays = {key for key in files or () if OF_AN_ARRAY.fullmatch(key)}
    for key in sorted((needed | strays | set(manifest)) - absent):
        problems = ["missing"]
        if files is None or key in files:
            problems = list(_problems(store, key, manifest, expected))
            if key == commit and unreadable and not problems:
                problems = [unreadable]
        if problems:
            found.append(Damage(key.partition("/")[0] if "/" in key else "", word(key), "; ".join(problems)))
    return found


def _commit_description(description: bytes | None, files: Set[str]) -> str:
    """The commit array's `zarr.json`; if the description is unreadable, the first known one that exists."""
    try:
        _, encoding = plan_and_encoding(parse_attributes(description or b"", ""), "")
        return f"{encoding.commit}/zarr.json"
    except BROKEN:
        known = [f"{commit}/zarr.json" for commit in COMMITS]
        return next((key for key in known if key in files), known[0])


def refuse_other_format(description: bytes, where: object) -> None:
    """Refuse a store of another format, which is not damage; raises InputError."""
    try:
        stored = parse(description, "zarr.json", where)["attributes"]["prepkd"]
    except MALFORMED:
        return  # reported as damage later
    if isinstance(stored, dict):
        check_format(stored, where)


class _Expected:
    """The files that a store's description promises, and the required content of each."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # An empty store of that layout, to decode one chunk at a time even if the real metadata is damaged.
        self.memory: dict[str, Buffer] = {}
        self.arrays = {name: layout.array(MemoryStore(self.memory), name) for name in layout.fields}

    @classmethod
    def of(cls, description: bytes, array: bytes) -> tuple["_Expected | None", str]:
        """Read the group's and the commit array's `zarr.json`; None if they describe no store, and the latter's problem."""
        try:
            plan, encoding = plan_and_encoding(parse_attributes(description, ""), "")
        except BROKEN:
            return None, ""  # a problem of `zarr.json`, which has its own check
        key = f"{encoding.commit}/zarr.json"
        try:
            return cls(Layout(plan, encoding, parse_chunk_length(array, key, ""))), ""
        except BROKEN as error:
            return None, one_line(error).removeprefix(": ").removeprefix(f"{key}: ")

    def not_fetched(self, files: Set[str] | None, partial: bytes) -> set[str]:
        """The files of views that a partial copy omits: views without any file here that `partial.json` does not list."""
        try:
            here = set(parse_partial(partial, self.layout.plan.views, ""))
        except InputError:
            here = set()
        here |= {part[1] for key in files or () if (part := self.layout.parse_chunk_key(key))}
        return {
            key for key in self.layout.all_keys() if (part := self.layout.parse_chunk_key(key)) and part[1] not in here
        }

    def max_size(self, key: str) -> int:
        """The maximum size of a file in bytes; 0 for a path that is no file of this store."""
        part = self.layout.parse_chunk_key(key)
        if part:
            return self.layout.file_sizes(part[0])[1]
        name = key.removesuffix("zarr.json").removesuffix("/")
        return LIMITS["zarr.json"] if key.endswith("/zarr.json") and name in self.layout.fields else LIMITS.get(key, 0)

    def problems(self, key: str, content: bytes) -> Iterator[str]:
        """The problems in the content of an array's file, apart from the manifest's hash."""
        part = self.layout.parse_chunk_key(key)
        if part is None:
            yield from differences(content, key.partition("/")[0], self.layout, "")
            return
        name, view, chunk = part
        if problem := self.layout.size_problem(name, content):
            yield problem
            return
        field, samples = self.layout.fields[name], self.layout.slice(chunk)
        self.memory[key] = CPUBuffer.from_bytes(content)
        try:
            values = np.asarray(self.arrays[name][view, samples])
        except BROKEN as error:
            yield f"it does not decode: {one_line(error)}"
            return
        finally:
            del self.memory[key]
        missing = np.isnan(values) if np.isnan(field.fill) else values == field.fill
        if missing.any():
            yield f"{int(missing.sum())} of its values are the fill value, which means missing"
        elif name == "params" and not np.array_equal(values, self.layout.plan.parameters(view, samples)):
            yield f"it differs from the plan's parameters of view {view}"
        elif problem := field.problem(values):
            yield problem


def _problems(store: Store, key: str, manifest: Mapping[str, str], expected: _Expected | None) -> Iterator[str]:
    known = key in LIMITS or OF_AN_ARRAY.fullmatch(key)
    most = expected.max_size(key) if expected else LIMITS.get(key.rpartition("/")[2], MAX_UNKNOWN_BYTES)
    if not known or not most:
        yield "no file of this store: left by another one"
        return
    try:
        content = get(store, key, most + 1)
    except UnreachableError:  # it says nothing about the file
        raise
    except (InputError, OSError) as error:
        yield f"it cannot be read: {one_line(error)}"
        return
    if content is None:
        yield "missing"
        return
    if len(content) > most:
        yield f"it has more than {most:,} bytes"
        return
    if manifest and key not in manifest:
        yield f"not in {MANIFEST}"
    elif manifest and manifest[key] != sha256(content):
        yield _difference(key, content, manifest)
    try:
        yield from _own_problems(key, content, expected)
    except InputError as error:
        yield one_line(error).removeprefix(": ").removeprefix(f"{key}: ")


def _own_problems(key: str, content: bytes, expected: _Expected | None) -> Iterator[str]:
    """The problems in a file's content, apart from the manifest's hash; raises InputError for JSON that cannot be parsed."""
    if key == "zarr.json":
        yield from _attributes(content)
    elif key == SUMMARY:
        parse_summary(content, expected.layout if expected else None, "")
    elif expected is not None:
        yield from expected.problems(key, content)
    elif key.endswith("/zarr.json") and parse(content, key, "").get("node_type") != "array":
        yield "it describes no array"


def _manifest(content: bytes | None) -> tuple[dict[str, str], str]:
    """Path -> SHA-256, and the manifest's problem, '' if it has none."""
    if content is None:
        return {}, "missing: the store is unfinished, or lost it"
    try:
        return parse_manifest(content, ""), ""
    except InputError as error:
        return {}, one_line(error).removeprefix(f": {MANIFEST}: ")


def _difference(key: str, content: bytes, manifest: Mapping[str, str]) -> str:
    """Describe how a file differs from the manifest's entry."""
    found = sha256(content)
    where = [other for other, sha in manifest.items() if sha == found]
    if where:
        return f"it holds the bytes of {word(where[0])}"
    if is_web_page(content):
        return "it is an HTML page; the server does not have this file"
    length = f"{len(content)} bytes" if content else "zero bytes"
    return f"{length} with sha256 {difference(found, manifest[key])}"


def _attributes(content: bytes) -> Iterator[str]:
    attributes = parse_attributes(content, "")
    plan_and_encoding(attributes, "")
    stored = parse(content, "zarr.json", "")["attributes"]["prepkd"]
    for name, value in attributes.fingerprints.items():
        if name not in stored:
            yield f"fingerprints.{word(name)} is of no section"
        elif fingerprint(stored[name]) != value:
            yield f"fingerprints.{name} is {value[:12]}, but the section's is {fingerprint(stored[name])[:12]}"
    for name in ("dataset", "encoding", "views"):
        if name not in attributes.fingerprints:
            yield f"fingerprints.{name} is missing"
