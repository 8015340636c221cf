"""Copy a store, or some of its views, to another place; every file is checked before it is written there."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from zarr.abc.store import Store

from prepkd.errors import InputError, refuse_differences
from prepkd.runtime.files import json_bytes, sha256
from prepkd.runtime.services import is_remote
from prepkd.store.documents import parse, parse_manifest, read_document
from prepkd.store.durable import DurableStore
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY
from prepkd.store.ownership import claimed_store, first_foreign, publishing
from prepkd.store.place import delete, exists, get, keys, open_place, put
from prepkd.store.reader import AnswerStore, FeatureStore


@dataclass(frozen=True)
class FetchResult:
    """The result of a fetch: the copy's place, files and bytes copied, files `kept` from before, views of the copy."""

    place: str
    files: int
    bytes: int
    kept: int
    views: list[int]
    total: int  # views of the whole store


def open_source(url: str, sha256: str | None = None) -> AnswerStore:
    """Open the store to copy; with `sha256`, raise InputError if its manifest has another SHA-256.

    The manifest states the SHA-256 of every other file.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"--sha256 is {sha256!r}; expected 64 hex digits, as cache-logits and inspect state them")
    return AnswerStore.open(url, sha256=sha256)


def copy_name(url: str) -> str:
    """The name of a copy of the store at a path or URL; raises InputError if the last part is no name."""
    name = url.rstrip("/").rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        raise InputError(f"{url}: has no name for the copy; choose its place with --to")
    return name


def copy_folder(source: AnswerStore) -> str:
    """The project folder in which commands look for a copy of a store."""
    return f"data/features/{source.attributes.teacher.name}" if isinstance(source, FeatureStore) else "data/logits"


def fetch_views(
    source: AnswerStore,
    target: str,
    views: str | None,
    scratch_root: Path,
    *,
    on_wait: Callable[[str], None],
    on_start: Callable[[int], None] = lambda files: None,
    on_file: Callable[[], None] = lambda: None,
) -> FetchResult:
    """Copy views of a store to the path or URL `target`; `views` is text as for `parse_views`, None for all views.

    `on_wait` gets one line when another process copies to the same place, `on_start` the number of files, and `on_file` is
    called after each file. Raises InputError.
    """
    where = _absolute(target)
    if where == _absolute(source.url):
        raise InputError(f"{source.url}: is to be copied onto itself; choose another place with --to")
    chosen = list(range(source.views)) if views is None else parse_views(views, source.views)
    # A bucket has no locks: there only this project's commands wait for each other.
    alone = nullcontext() if is_remote(target) else publishing(Path(target).resolve(), on_wait)
    with claimed_store(target, scratch_root, on_wait), alone:
        on_start(len(copied_files(source, chosen)))
        return fetch(source, open_place(target, write=True), chosen, target, on_file)


def _absolute(url: str) -> str:
    return url if is_remote(url) else str(Path(url).absolute())


def copied_files(store: AnswerStore, views: Sequence[int]) -> list[str]:
    """The files of a copy of these views except its manifest: the descriptions first, then chunk by chunk."""
    described = ["zarr.json", *(f"{name}/zarr.json" for name in store.layout.fields), SUMMARY]
    chunks = [(view, chunk) for view in views for chunk in range(store.layout.chunks)]
    return described + [key for view, chunk in chunks for key in store.layout.keys(view, chunk).values()]


def fetch(
    source: AnswerStore, target: Store, views: Sequence[int], where: object, on_file: Callable[[], None]
) -> FetchResult:
    """Copy views to a target, the manifest last; correct files are kept, so an interrupted fetch resumes.

    A copy of some views holds `partial.json`. Raises InputError if the source lacks a view or a file of it is damaged, or if
    the target holds something else.
    """
    if absent := sorted(set(views) - set(source.present)):
        raise InputError(f"{source.url}: view {absent[0]} is not there; it holds views {views_text(source.present)}")
    check_target(source, target, where)
    manifest = source.store.manifest
    files = size = kept = 0
    for key in copied_files(source, views):
        found = get(target, key, source.store.max_size(key) + 1)
        if found is not None and sha256(found) == manifest[key]:
            kept += 1
        else:
            content = get(source.store, key)  # raises for a missing or damaged file
            assert content is not None, key
            put(target, key, content)
            files, size = files + 1, size + len(content)
        on_file()
    if isinstance(target, DurableStore):
        target.remove_partial()
    here = source.layout.views_in(keys(target))
    if len(here) < source.views:
        put(target, PARTIAL, json_bytes({"views": here}))
    elif exists(target, PARTIAL):
        delete(target, PARTIAL)
    if not exists(target, MANIFEST):
        put(target, MANIFEST, manifest_bytes(source))
    return FetchResult(str(where), files, size, kept, here, source.views)


def manifest_bytes(source: AnswerStore) -> bytes:
    """The source's manifest, byte for byte: a copy has the same SHA-256. Raises InputError if it was replaced meanwhile."""
    content = read_document(source.store.place, MANIFEST)
    if content is None or sha256(content) != source.manifest_sha256:
        raise InputError(f"{source.url}: {MANIFEST} has changed while its files were copied; run fetch-views again")
    return content


def check_target(source: AnswerStore, target: Store, where: object) -> None:
    """Refuse a place that holds anything except a complete or partial copy of this store; raises InputError."""
    remedy = "choose another place with --to"
    if foreign := first_foreign(target):
        raise InputError(f"{where}: holds {foreign}, which is no part of a store that prepkd wrote; {remedy}")
    found = read_document(target, "zarr.json")
    if found is None:
        return
    if sha256(found) != source.store.manifest["zarr.json"]:
        theirs = _fingerprints(found)
        ours = source.attributes.fingerprints
        differences = {f"fingerprints.{key}": (theirs.get(key), ours.get(key)) for key in sorted({*ours, *theirs})}
        refuse_differences(differences, f"{where}: another store", remedy)
        raise InputError(f"{where}: zarr.json differs from that of {source.url}; {remedy}")
    listing = read_document(target, MANIFEST)
    if listing is not None and parse_manifest(listing, where) != source.store.manifest:
        raise InputError(f"{where}: {MANIFEST} is another one than that of {source.url}: written elsewhere; {remedy}")


def _fingerprints(description: bytes) -> dict[str, str]:
    try:
        return dict(parse(description, "zarr.json", "")["attributes"]["prepkd"]["fingerprints"])
    except (ValueError, KeyError, TypeError):  # another Zarr group
        return {}


def parse_views(text: str, views: int) -> list[int]:
    """The views named by `0:8`, `3` or `0,4:6`, sorted; raises InputError unless all are below `views`."""
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]+)(?::([0-9]+))?\s*", part)
        start, stop = (int(found[1]), int(found[2] or int(found[1]) + 1)) if found else (0, 0)
        if start >= stop:
            raise InputError(f"--select is {text!r}; expected a view, a range a:b, or several joined by commas: 0:8,12")
        if stop > views:
            raise InputError(f"--select is {text!r}; the store has {views} views, 0 to {views - 1}")
        chosen.update(range(start, stop))
    return sorted(chosen)


def views_text(views: Sequence[int]) -> str:
    """The shortest text that `parse_views` reads as these sorted views; `none` for none."""
    parts: list[list[int]] = []
    for view in views:
        if parts and parts[-1][1] == view:
            parts[-1][1] = view + 1
        else:
            parts.append([view, view + 1])
    return ",".join(f"{start}:{stop}" if stop > start + 1 else f"{start}" for start, stop in parts) or "none"
