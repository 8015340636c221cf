"""A store while it is written: resumed after a crash, visible at its place only when it is finished."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prepkd.errors import InputError, UnreachableError
from prepkd.runtime.files import fingerprint, publish, remove_leftovers, set_aside
from prepkd.runtime.scratch import is_awaited, remove_finished
from prepkd.runtime.services import is_remote
from prepkd.store.attributes import Attributes
from prepkd.store.layout import MANIFEST, Layout
from prepkd.store.ownership import clear_store, publishing, refuse_foreign_store, refuse_replacing
from prepkd.store.place import delete, exists, open_place
from prepkd.store.reader import AnswerStore
from prepkd.store.writer import StoreWriter, repair_descriptions

GROWING = "store.zarr"  # in the scratch folder


def resume_writer(
    url: str, layout: Layout, attributes: Attributes, work: Path, on_wait: Callable[[str], None]
) -> StoreWriter:
    """Return the writer of a store in the locked scratch folder `work`, or in a bucket at its URL; it resumes earlier work.

    A bucket has no rename, so a store is written at its URL; readers refuse it while it has no manifest. The manifest of an
    earlier store is deleted first.
    """
    if is_remote(url):
        return _remote_writer(url, layout, attributes)
    return _local_writer(work / GROWING, layout, attributes, on_wait)


def publish_store(
    url: str, attributes: Attributes, work: Path, *, on_wait: Callable[[str], None], replace: bool, place: str = ""
) -> None:
    """Move a finished local store from the locked scratch folder `work` to its resolved path; do nothing for a bucket.

    The store is copied instead if other processes wait for it, except those that have joined for `place`. Raises InputError, and
    leaves the store in scratch, if the path now holds anything but a store that prepkd wrote, or another store without `replace`.
    """
    if is_remote(url):
        return
    path = Path(url).resolve()
    with publishing(path, on_wait):
        refuse_foreign_store(url)
        if not replace:
            refuse_replacing(url, attributes)
        publish(work / GROWING, path, keep=is_awaited(work, place))


def work_fingerprint(attributes: Attributes, layout: Layout) -> str:
    """Identify the work on a store, its chunk length included; the folder in scratch has this name."""
    return fingerprint([attributes.fingerprints, attributes.format, layout.chunk])


def already_finished(url: str, layout: Layout, attributes: Attributes, scratch_root: Path) -> dict[str, Any] | None:
    """As `finished_summary`; for a finished store, also remove the leftovers of a process that was killed after publishing it."""
    summary = finished_summary(url, attributes)
    if summary is not None:
        if not is_remote(url):
            remove_leftovers(Path(url))
        remove_finished(scratch_root, work_fingerprint(attributes, layout))
    return summary


def finished_summary(url: str, attributes: Attributes, *, every_byte: bool = True) -> dict[str, Any] | None:
    """The summary of the finished, undamaged store of these fingerprints at `url`; None if there is none.

    With `every_byte` all views are read and checked. Raises UnreachableError or OSError if the place cannot be reached or read.
    """
    try:
        store = AnswerStore.open(url)
        if not store.attributes.same_store(attributes):
            return None
        for view in range(store.views if every_byte else 0):
            store.stored(view)
    except UnreachableError:  # the store may be whole, and others may be reading it
        raise
    except InputError:
        return None  # missing, unfinished or damaged: it is written again and replaced at the end
    return store.summary


def _local_writer(growing: Path, layout: Layout, attributes: Attributes, say: Callable[[str], None]) -> StoreWriter:
    """Return the writer of a store in scratch; rewrite damaged descriptions, and set aside a folder that can't be resumed."""
    store = open_place(growing, write=True)
    try:
        damaged = repair_descriptions(store, layout, attributes) if os.path.lexists(growing) else []
    except (InputError, FileExistsError, IsADirectoryError, NotADirectoryError):  # no file, or no folder, in its place
        say(f"{growing}: damaged; set aside as {set_aside(growing).name}, and the work starts anew")
    else:
        if damaged:
            say(f"{growing}: {', '.join(damaged)}: damaged; they are rewritten, and the work continues")
    return StoreWriter(store, layout, attributes, growing)


def _remote_writer(url: str, layout: Layout, attributes: Attributes) -> StoreWriter:
    store = open_place(url, write=True)
    # A process that this one waited for may have finished the same store, and others may be reading it. The existence of the
    # manifest is checked first: a manifest that appears later belongs to a worker on another machine.
    if exists(store, MANIFEST) and finished_summary(url, attributes) is None:
        delete(store, MANIFEST)
    try:
        return StoreWriter(store, layout, attributes, url)
    except UnreachableError:
        raise
    except InputError:  # another store's chunks; its manifest is already deleted
        clear_store(store, url)
        return StoreWriter(store, layout, attributes, url)
