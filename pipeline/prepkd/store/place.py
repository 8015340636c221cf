"""Open a store's place, a local folder or an fsspec URL, and read and write its files."""

import contextlib
import os
from pathlib import Path
from typing import Any

from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import LocalStore

from prepkd.errors import InputError, UnreachableError
from prepkd.runtime.services import is_remote
from prepkd.store.durable import DurableStore
from prepkd.store.local import LocalFiles
from prepkd.store.remote import RemoteStore
from prepkd.store.zarr_variables import refuse_zarr_variables

MAX_LISTED_FILES = 2**22  # files


def open_place(url: str | Path, *, write: bool = False, **options: Any) -> Store:
    """Open the files under a local path or an fsspec URL; `options` go to fsspec. Raises InputError if that fails.

    A local file is flushed to disk before it gets its name; an object in a bucket appears complete or not at all.
    """
    refuse_zarr_variables()
    local = str(url).startswith(("file://", "local://"))
    if local and write:  # fsspec writes these in place, where a crash leaves half a file
        raise InputError(f"{url}: name a local store by its path, without {str(url).partition('//')[0]}//")
    if local:
        return LocalFiles(Path(str(url).partition("://")[2]), read_only=True)
    if not is_remote(url):
        return DurableStore(Path(url)) if write else LocalFiles(Path(url), read_only=True)
    # Listings change while another process writes; fsspec would answer from its cache.
    options = {"use_listings_cache": False} | options
    try:
        return RemoteStore.from_url(str(url), storage_options=options, read_only=not write)
    except (ImportError, ValueError, OSError) as error:
        raise UnreachableError(f"{url}: cannot be opened: {error}") from None


def get(store: Store, key: str, most: int | None = None) -> bytes | None:
    """Read a file's content, or its first `most` bytes; None if it does not exist."""
    first = None if most is None else RangeByteRequest(0, most)
    try:
        value = sync(store.get(key, default_buffer_prototype(), first))
    except FileNotFoundError:  # a folder that does not exist; buckets do not raise
        return None
    return None if value is None else value.to_bytes()


def put(store: Store, key: str, content: bytes) -> None:
    """Write a complete file."""
    sync(store.set(key, Buffer.from_bytes(content)))


def exists(store: Store, key: str) -> bool:
    """Check that a file exists."""
    return sync(store.exists(key))


def can_list(store: Store) -> bool:
    """Whether the files of a place can be listed; a web server's cannot."""
    return not (isinstance(store, RemoteStore) and store.is_web)


def sizes(store: Store) -> dict[str, int] | None:
    """The bytes of each file of a place, by path relative to it; None for a place whose listing has no sizes."""
    if isinstance(store, LocalStore):
        return _local_sizes(store.root)
    return sync(store.sizes()) if isinstance(store, RemoteStore) and can_list(store) else None


def _local_sizes(root: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}{entry.name}/")
                elif entry.is_file():
                    found[f"{folder}{entry.name}"] = entry.stat().st_size
        if len(found) > MAX_LISTED_FILES:
            raise InputError(f"{root}: holds more than {MAX_LISTED_FILES:,} files, so it is not a store of prepkd")
    return found


def keys(store: Store) -> set[str]:
    """List every file's path, relative to the store; raises InputError if they cannot be listed."""
    if (found := sizes(store)) is not None:
        return set(found)

    async def listed() -> set[str]:
        return {key async for key in store.list()}

    return sync(listed())


def child_names(store: Store) -> set[str]:
    """List the first part of every file's path, by a listing of the place itself."""

    async def listed() -> set[str]:
        return {name.strip("/") async for name in store.list_dir("")} - {""}

    return sync(listed())


def delete(store: Store, key: str) -> None:
    """Remove a file if it exists."""
    sync(store.delete(key))
