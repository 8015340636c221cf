"""Copy a store, or some of its views, to another place; every file is checked before it is written there."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zarr.abc.store import Store

from prepkd.errors import InputError, refuse_differences
from prepkd.runtime.files import json_bytes
from prepkd.store.durable import DurableStore
from prepkd.store.layout import MANIFEST, PARTIAL, SUMMARY
from prepkd.store.own import claimed_store, first_foreign
from prepkd.store.place import delete, exists, get, is_remote, keys, open_place, put
from prepkd.store.reader import LogitStore, sha256


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch: files and bytes copied, files that were there already, and the views that are there now."""

    files: int
    bytes: int
    kept: int
    views: list[int]
    total: int  # views of the whole store


def fetch_views(
    url: str,
    target: str,
    views: str | None,
    scratch_root: Path,
    *,
    on_wait: Callable[[str], None],
    on_start: Callable[[LogitStore, int], None],
    on_file: Callable[[], None],
) -> Fetched:
    """Copy views of the store at `url` (all for None, else as `parse_views` reads them) to the path or URL `target`.

    `on_wait` gets one line when another process copies to the same place, `on_start` the store and the number of files, and
    `on_file` is called after each file. Raises InputError.
    """
    where = _absolute(target)
    if where == _absolute(url):
        raise InputError(f"{url}: is to be copied onto itself; choose another place with --to")
    source = LogitStore.open(url)
    chosen = list(range(source.views)) if views is None else parse_views(views, source.views)
    with claimed_store(target, scratch_root, on_wait):
        on_start(source, len(wanted(source, chosen)))
        return fetch(source, open_place(target, write=True), chosen, target, on_file)


def _absolute(url: str) -> str:
    return url if is_remote(url) else str(Path(url).absolute())


def wanted(store: LogitStore, views: Sequence[int]) -> list[str]:
    """The files of a copy of these views except its manifest: the descriptions first, then chunk by chunk."""
    described = ["zarr.json", *(f"{name}/zarr.json" for name in store.layout.fields), SUMMARY]
    chunks = [(view, chunk) for view in views for chunk in range(store.layout.chunks)]
    return described + [key for view, chunk in chunks for key in store.layout.keys(view, chunk).values()]


def fetch(
    source: LogitStore, target: Store, views: Sequence[int], where: object, on_file: Callable[[], None]
) -> Fetched:
    """Copy views to a target, the manifest last; correct files are kept, so an interrupted fetch resumes.

    A copy of some views holds `partial.json`. Raises InputError if the source lacks a view or a file of it is damaged, or if
    the target holds something else.
    """
    if absent := sorted(set(views) - set(source.present)):
        raise InputError(f"{source.url}: view {absent[0]} is not there; it holds views {views_text(source.present)}")
    check_target(source, target, where)
    manifest = source.store.manifest
    files = size = kept = 0
    for key in wanted(source, views):
        found = get(target, key)
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
        put(target, MANIFEST, json_bytes(manifest))
    return Fetched(files, size, kept, here, source.views)


def check_target(source: LogitStore, target: Store, where: object) -> None:
    """Refuse a place that holds anything except a complete or partial copy of this store; raises InputError."""
    remedy = "choose another place with --to"
    if foreign := first_foreign(target):
        raise InputError(f"{where}: holds {foreign}, which is no part of a store that prepkd wrote; {remedy}")
    found = get(target, "zarr.json")
    if found is None:
        return
    if sha256(found) != source.store.manifest["zarr.json"]:
        theirs = _fingerprints(found)
        ours = source.attributes.fingerprints
        differences = {f"fingerprints.{key}": (theirs.get(key), ours.get(key)) for key in sorted({*ours, *theirs})}
        refuse_differences(differences, f"{where}: another store", remedy)
        raise InputError(f"{where}: zarr.json differs from that of {source.url}; {remedy}")
    listing = get(target, MANIFEST)
    if listing is not None and json.loads(listing) != source.store.manifest:
        raise InputError(f"{where}: {MANIFEST} is another one than that of {source.url}: written elsewhere; {remedy}")


def _fingerprints(description: bytes) -> dict[str, str]:
    try:
        return dict(json.loads(description)["attributes"]["prepkd"]["fingerprints"])
    except (ValueError, KeyError, TypeError):  # another Zarr group
        return {}


def parse_views(text: str, views: int) -> list[int]:
    """The views named by `0:8`, `3` or `0,4:6`, sorted; raises InputError unless all are below `views`."""
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]+)(?::([0-9]+))?\s*", part)
        start, stop = (int(found[1]), int(found[2] or int(found[1]) + 1)) if found else (0, 0)
        if start >= stop:
            raise InputError(f"--views is {text!r}; expected a view, a range a:b, or several joined by commas: 0:8,12")
        if stop > views:
            raise InputError(f"--views is {text!r}; the store has {views} views, 0 to {views - 1}")
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
