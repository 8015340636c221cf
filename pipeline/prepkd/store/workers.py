"""Write one store with several processes: they claim chunks, may join late or die, and one of them finishes the store.

A worker holds the locks of the store's place and of its scratch folder while it joins and while it finishes, and none while
it computes.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prepkd.errors import InputError
from prepkd.runtime.outputs import locked, place_fingerprint
from prepkd.runtime.scratch import hold_member_lock, is_shared, member_lock_path, remove_finished, scratch
from prepkd.runtime.services import is_remote
from prepkd.store.attributes import Attributes
from prepkd.store.claims import EXPIRY, Claims, claim_files
from prepkd.store.destination import Destination
from prepkd.store.layout import CLAIMS, MANIFEST, Layout
from prepkd.store.ownership import claimed_store, place_of, refuse_replacing
from prepkd.store.summary import Labels
from prepkd.store.unfinished import (
    GROWING,
    already_finished,
    finished_summary,
    publish_store,
    resume_writer,
    work_fingerprint,
)
from prepkd.store.writer import StoreWriter

ChunkIndex = tuple[int, int]  # view, chunk
PATIENCE = 2.0  # seconds of waiting while other workers join, before a line reports it
POLL, REMOTE_POLL = 0.2, 2.0  # seconds between checks of chunks that others have claimed
FINISH = "finish"  # the claim of the worker that finishes a store in a bucket


@dataclass
class SharedStore:
    """A store that several workers write: its destination and attributes, and the manifest that existed at first."""

    destination: Destination
    layout: Layout
    attributes: Attributes
    initial_manifest: object = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.work = work_fingerprint(self.attributes, self.layout)
        self.name = place_fingerprint(place_of(self.destination.url))
        self.initial_manifest = self._manifest()

    def published(self) -> dict[str, Any] | None:
        """Return the summary if another worker has published the store since this one joined; else None."""
        if not is_remote(self.destination.url) and self._manifest() == self.initial_manifest:
            return None
        # That worker has just read every byte back.
        return finished_summary(self.destination.url, self.attributes, every_byte=False)

    def _manifest(self) -> object:
        if is_remote(self.destination.url):  # an invalid manifest is deleted before the first chunk
            return None
        try:
            found = Path(self.destination.url, MANIFEST).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns


@dataclass
class Worker:
    """One of the processes that write a store.

    `first`: no other worker was present when it joined. `pending` are the chunks that were unfinished then, `damaged` those of
    them that have a commit record. The destination's `on_chunk` is called for each pending chunk that another worker has written.
    """

    store: SharedStore
    writer: StoreWriter
    claims: Claims
    first: bool
    pending: list[ChunkIndex]
    damaged: set[ChunkIndex]
    leave: Callable[[], None]  # the workers that share the scratch folder
    written: int = field(default=0, init=False)

    def claimed(self) -> Iterator[ChunkIndex]:
        """Yield chunks that no other worker computes, to be passed to `write`, until all pending ones are done.

        The first worker takes them in order; others start at a random one.
        """
        start = 0 if self.first else int(self.claims.worker[-8:], 16) % max(1, len(self.pending))
        left = self.pending[start:] + self.pending[:start]
        while left:
            busy = []
            for part in left:
                if self._done(part):
                    self.store.destination.on_chunk()
                    continue
                try:
                    taken = self.claims.take(_name(part))
                except FileNotFoundError:  # another worker has finished the store meanwhile
                    return
                if not taken:
                    busy.append(part)
                elif self._done(part):  # finished between the check and the claim
                    self.claims.release(_name(part))
                    self.store.destination.on_chunk()
                else:
                    yield part
            left = busy
            if left:
                time.sleep(REMOTE_POLL if is_remote(self.store.destination.url) else POLL)

    def write(self, view: int, chunk: int, arrays: Mapping[str, Tensor | NDArray[Any]]) -> None:
        """Write a claimed chunk, as `StoreWriter.write`; do nothing if the store was finished meanwhile."""
        name = _name((view, chunk))
        if not self.claims.holds(name):
            return
        try:
            self.writer.write(view, chunk, arrays)
            self.written += 1
        except FileNotFoundError:
            if self.claims.holds(name):
                raise
        finally:
            self.claims.release(name)

    def finish(self, labels: NDArray[np.int64] | Labels | None = None) -> dict[str, Any]:
        """Finish the store and publish it, or wait until another worker has; returns its summary."""
        store, to = self.store, self.store.destination
        with locked(place_of(to.url), to.scratch_root, to.on_wait), contextlib.ExitStack() as held:
            if (summary := store.published()) is not None:
                return summary
            if is_remote(to.url):
                while not self.claims.take(FINISH):  # a worker on another machine finishes it
                    if (summary := store.published()) is not None:
                        return summary
                    time.sleep(REMOTE_POLL)
                held.callback(self.claims.release, FINISH)
                if (summary := store.published()) is not None:
                    return summary
            with scratch(to.scratch_root, store.work, on_wait=to.on_wait, place=store.name) as work:
                if not is_remote(to.url):
                    self.claims.clear()
                    if not (work / GROWING).exists():
                        raise InputError(f"{work / GROWING}: has been removed; run the same command again")
                summary = self.writer.finish(labels)
                publish_store(to.url, store.attributes, work, on_wait=to.on_wait, replace=to.replace, place=store.name)
                self.leave()
        return summary

    def _done(self, part: ChunkIndex) -> bool:
        return self.writer.done(*part) if part in self.damaged else self.writer.committed(*part)


def _name(part: ChunkIndex) -> str:
    return f"{part[0]}.{part[1]}"


@contextlib.contextmanager
def join_workers(
    destination: Destination, layout: Layout, attributes: Attributes, *, expiry: float = EXPIRY
) -> Iterator[Worker | dict[str, Any]]:
    """Join the workers that write a store, or become the first; yield a finished store's summary instead.

    `expiry` is the time in seconds after which a silent worker's claims are taken over. Waits while processes write another
    store at the destination. Raises InputError if the destination holds anything but a store that prepkd wrote, or another store
    without `replace`.
    """
    store, root = SharedStore(destination, layout, attributes), destination.scratch_root
    with contextlib.ExitStack() as held:
        with claimed_store(destination.url, root, destination.on_wait, work=store.work, patience=PATIENCE):
            if summary := already_finished(destination.url, layout, attributes, root):
                yield summary
                return
            if not destination.replace:
                refuse_replacing(destination.url, attributes)
            with scratch(root, store.work, on_wait=destination.on_wait, keep=True, patience=PATIENCE) as work:
                if first := not is_shared(work):
                    shutil.rmtree(work / CLAIMS, ignore_errors=True)  # of dead processes
                membership = held.enter_context(contextlib.ExitStack())
                membership.enter_context(hold_member_lock(member_lock_path(work, store.name)))
                writer = resume_writer(destination.url, layout, attributes, work, destination.on_wait)
                files = claim_files(writer.store, work / CLAIMS)
        if files is None:
            destination.on_wait(
                f"{destination.url}: has no conditional put, so two processes may compute the same chunk; its bytes are the same"
            )
        claims = held.enter_context(Claims(files, expiry=expiry))
        # The first worker reads existing chunks back; later ones need not, since `finish` reads everything.
        pending = list(writer.pending()) if first else [part for part in writer.parts() if not writer.committed(*part)]
        damaged = {part for part in pending if first and writer.committed(*part)}
        yield Worker(store, writer, claims, first, pending, damaged, membership.close)
    remove_finished(root, store.work)
