"""Open a store's place, a local folder or an fsspec URL, and read and write its files."""

from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import LocalStore

from prepkd.errors import InputError
from prepkd.store.durable import DurableStore
from prepkd.store.remote import RemoteStore


def is_remote(url: str | Path) -> bool:
    """Tell a URL such as `s3://bucket/large.zarr` from a local path."""
    return "://" in str(url)


def open_place(url: str | Path, *, write: bool = False, **options: Any) -> Store:
    """Open the files under a local path or an fsspec URL; `options` go to fsspec. Raises InputError if that fails.

    A local file is flushed to disk before it gets its name; an object in a bucket appears complete or not at all.
    """
    if not is_remote(url):
        return DurableStore(Path(url)) if write else LocalStore(Path(url), read_only=True)
    if write and str(url).startswith(
        ("file://", "local://")
    ):  # fsspec writes these in place, where a crash leaves half a file
        raise InputError(f"{url}: name a local store by its path, without {str(url).partition('//')[0]}//")
    # Listings change while another process writes; fsspec would answer from its cache.
    options = {"use_listings_cache": False} | options
    try:
        return RemoteStore.from_url(str(url), storage_options=options, read_only=not write)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{url}: cannot be opened: {error}") from None


def get(store: Store, key: str) -> bytes | None:
    """Read a file's content; None if it does not exist."""
    try:
        value = sync(store.get(key, default_buffer_prototype()))
    except FileNotFoundError:  # a folder that does not exist; buckets do not raise
        return None
    return None if value is None else value.to_bytes()


def put(store: Store, key: str, content: bytes) -> None:
    """Write a complete file."""
    sync(store.set(key, Buffer.from_bytes(content)))


def exists(store: Store, key: str) -> bool:
    """Check that a file exists."""
    return sync(store.exists(key))


def keys(store: Store) -> set[str]:
    """List every file's path, relative to the store."""

    async def listed() -> set[str]:
        return {key async for key in store.list()}

    return sync(listed())


def names(store: Store) -> set[str]:
    """List the first part of every file's path, by a listing of the place itself."""

    async def listed() -> set[str]:
        return {name.strip("/") async for name in store.list_dir("")} - {""}

    return sync(listed())


def delete(store: Store, key: str) -> None:
    """Remove a file if it exists."""
    sync(store.delete(key))
