"""Guard a store's place: only files of a store that prepkd wrote may be replaced or removed."""

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

from zarr.abc.store import Store
from zarr.core.sync import sync

from prepkd.errors import InputError, UnreachableError, without_login
from prepkd.runtime.outputs import REMEDY, WAITING, kind_of_file, locked, paths_in, place_fingerprint, refuse_blocked
from prepkd.runtime.scratch import has_members, member_lock_path
from prepkd.runtime.services import is_remote
from prepkd.settings.section import written_out
from prepkd.store.attributes import MALFORMED, Attributes, read_attributes
from prepkd.store.claims import CLAIM
from prepkd.store.documents import read_document
from prepkd.store.durable import LEFTOVER
from prepkd.store.encodings import COMMITS, ENCODINGS
from prepkd.store.layout import CLAIMS, MANIFEST, PARTIAL, SUMMARY
from prepkd.store.place import child_names, keys, open_place
from prepkd.store.remote import RemoteStore

DESCRIPTION = "zarr.json"
AT_ONCE = 64  # files removed concurrently
POLL = 0.2  # seconds


@cache
def store_key_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of a store's files in any encoding, a killed writer's temporary files included, and of its folders."""
    named = {"params"} | {name for encoding in ENCODINGS.values() for name in encoding(64).fields}
    arrays = "|".join([*sorted(named), r"tensor\d{1,2}"])
    files = "|".join(map(re.escape, (DESCRIPTION, MANIFEST, SUMMARY, PARTIAL)))
    key = rf"({files}|({arrays})/(zarr\.json|c(/\d+)+))({LEFTOVER.pattern})?"
    key += (
        rf"|(({arrays})/)?(zarr|manifest|summary|partial){LEFTOVER.pattern}"  # Zarr's own name for a half-written file
    )
    return re.compile(rf"{key}|{CLAIM.pattern}"), re.compile(f"{arrays}|{CLAIMS}")


def refuse_foreign_store(url: str) -> None:
    """Raise InputError if anything at a store's place, a path or URL, is not part of a store that prepkd wrote.

    A store with a foreign file in it is refused as well: the file would be removed with the store.
    """
    if not url.rpartition("://")[2].strip("/ "):
        raise InputError(f"the store's place is {url!r}; expected a path, or a URL with more than its protocol")
    try:
        written_out(without_login(url))
    except ValueError as error:
        raise InputError(f"the store's place is {url!r}: {error}") from None
    if not is_remote(url):
        path = Path(url)
        refuse_blocked(path)
        if os.path.lexists(path.resolve()) and not path.is_dir():
            raise InputError(f"{url}: expected a store, or nothing; found {kind_of_file(path)}; {REMEDY}")
    if foreign := first_foreign(open_place(url)):
        raise InputError(f"{url}: holds {foreign}, which is no part of a store that prepkd wrote; {REMEDY}")
    if outer := next(filter(_holds_store, _parents(url)), None):
        raise InputError(f"{url}: is inside a store, {outer}, which it would make unusable; name another place")


def _parents(url: str) -> Iterator[str]:
    """The folders around a path or URL, the nearest first."""
    if not is_remote(url):
        yield from map(str, Path(url).resolve().parents)
        return
    protocol, _, path = url.partition("://")
    parts = path.rstrip("/").split("/")
    yield from (f"{protocol}://{'/'.join(parts[:count])}" for count in range(len(parts) - 1, 0, -1) if parts[count - 1])


def _holds_store(url: str) -> bool:
    if not is_remote(url) and not any(os.path.lexists(Path(url, name)) for name in (DESCRIPTION, MANIFEST)):
        return False
    try:
        return _is_ours(open_place(url))
    except UnreachableError:  # credentials may cover only the place itself
        return False


def first_foreign(store: Store) -> str | None:
    """Return the first key at a place that is no file of a store that prepkd wrote; None if there is none."""
    found = []
    for key, is_file in _entries(store):
        if not is_file or not store_key_patterns()[0].fullmatch(key):
            return key
        found.append(key)
    whole = [key for key in found if not re.search(rf"{LEFTOVER.pattern}$|^{CLAIM.pattern}$", key)]
    return None if not whole or _is_ours(store) else whole[0]


def _entries(store: Store) -> Iterator[tuple[str, bool]]:
    """Yield the keys at a place, and whether each is a file; lazily, since a place may hold any number of files."""
    root = getattr(store, "root", None)
    if isinstance(root, Path):
        yield from ((key, (root / key).is_file()) for key in paths_in(root))
        return
    if isinstance(store, RemoteStore) and sync(store.is_object()):
        yield store.path.rsplit("/", 1)[-1], False
        return
    # One short listing detects a bucket that is full of other objects.
    yield from (
        (name, False)
        for name in sorted(child_names(store))
        if not any(key.fullmatch(name) for key in store_key_patterns())
    )
    yield from ((key, True) for key in sorted(keys(store)))


def _is_ours(store: Store) -> bool:
    """Whether the description or the manifest is of a store that prepkd wrote; the other may be damaged or missing.

    Raises UnreachableError.
    """
    try:
        described, listing = (read_document(store, key) for key in (DESCRIPTION, MANIFEST))
    except UnreachableError:
        raise
    except InputError:  # not a regular file
        return False
    try:
        if described is not None and isinstance(json.loads(described)["attributes"]["prepkd"]["format"], int):
            return True
    except ValueError:  # half written by a place without atomic writes, or damaged
        if described is not None and (not described.strip(b"\0") or b'"prepkd"' in described):
            return True
    except MALFORMED:
        return False
    try:
        return _is_listing(set(json.loads(listing or b"[]")))
    except MALFORMED:
        return False


def _is_listing(files: set[str]) -> bool:
    """Whether a manifest lists the descriptions of a group and of an array of commit records."""
    return DESCRIPTION in files and any(f"{commit}/zarr.json" in files for commit in COMMITS)


def refuse_replacing(url: str, attributes: Attributes) -> None:
    """Raise InputError if the place holds a store, finished or not, of attributes other than `attributes`."""
    described = read_document(open_place(url), DESCRIPTION)
    try:
        stored = json.loads(described or b"")["attributes"]["prepkd"]
    except MALFORMED:  # missing or damaged
        return
    try:
        found = read_attributes(stored, url)
    except InputError:
        raise InputError(f"{url}: holds a store of another format; --replace replaces it") from None
    if found.same_store(attributes):
        return
    sections = sorted({*found.fingerprints, *attributes.fingerprints})
    others = [name for name in sections if found.fingerprints.get(name) != attributes.fingerprints.get(name)]
    raise InputError(
        f"{url}: holds another store, of teacher {found.teacher.name!r}, {found.views.views} views, "
        f"{found.encoding.name} (different: {', '.join(others or ['format'])}); --replace replaces it"
    )


@contextlib.contextmanager
def claimed_store(
    url: str, locks: Path, on_wait: Callable[[str], None], *, work: str = "", patience: float = 0
) -> Iterator[None]:
    """Hold the lock of a store's place; raises InputError unless it is empty or holds a store that prepkd wrote.

    Also waits for processes that have joined other work than `work` for this place.
    """
    refuse_foreign_store(url)
    place, told = place_of(url), False

    def tell(line: str) -> None:
        nonlocal told
        if not told:
            on_wait(line)
        told = True

    while True:
        with locked(place, locks, tell, patience=patience):
            others = locks.glob(member_lock_path(Path("*"), place_fingerprint(place)).as_posix())
            if not any([has_members(file) for file in others if file.parent.name != work]):
                refuse_foreign_store(url)  # again: another process may have held the lock
                yield
                return
        tell(WAITING.format(place))
        time.sleep(POLL)


def place_of(url: str) -> Path | str:
    """A store's place as locks name it: the resolved path, or the URL."""
    return url if is_remote(url) else Path(url).resolve()


@contextlib.contextmanager
def publishing(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a local store's path: a file beside the store, where other projects find it too.

    A process that writes at the path holds it throughout; one that writes in scratch holds it while it moves the store.
    """
    with locked(path, path.parent, on_wait, file=f".{path.name}.lock"):
        yield


def clear_store(store: Store, where: object, *, unless: Collection[str] = ()) -> None:
    """Remove a store's files one by one, unless all of them are in `unless`.

    Raises InputError, before it removes a file, if the place holds anything else.
    """
    if foreign := first_foreign(store):
        raise InputError(f"{where}: holds {foreign}, which is no part of a store that prepkd wrote; {REMEDY}")
    # The manifest goes first, so that readers refuse the rest; the description, which identifies the store, goes last.
    found = {key for key in keys(store) if not CLAIM.fullmatch(key)}  # claims belong to the next store's workers
    if found.issubset(unless):
        return
    for batch in ([MANIFEST], sorted(found - {MANIFEST, DESCRIPTION}), [DESCRIPTION]):
        sync(_remove(store, batch))


async def _remove(store: Store, batch: Iterable[str]) -> None:
    left = list(batch)
    for start in range(0, len(left), AT_ONCE):
        await asyncio.gather(*(store.delete(key) for key in left[start : start + AT_ONCE]))
