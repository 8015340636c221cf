"""Several processes write one store: they claim chunks, may join late and die; one of them finishes the store.

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
from prepkd.runtime.scratch import is_shared, joined, joint, remove_finished, scratch
from prepkd.runtime.services import is_remote
from prepkd.store.attributes import Attributes
from prepkd.store.claims import EXPIRY, Claims, claim_files
from prepkd.store.destination import Destination
from prepkd.store.layout import CLAIMS, MANIFEST, Layout
from prepkd.store.own import claimed_store, place_of, refuse_replacing
from prepkd.store.summary import Labels
from prepkd.store.unfinished import (
    GROWING,
    already_finished,
    finished_summary,
    growing_writer,
    publish_grown,
    work_fingerprint,
)
from prepkd.store.writer import StoreWriter

Part = tuple[int, int]  # view, chunk
PATIENCE = 2.0  # seconds that other workers may take to join, before a line says that they are waited for
POLL, REMOTE_POLL = 0.2, 2.0  # seconds between two looks at chunks that others have claimed
FINISH = "finish"  # the claim of the one that finishes a store in a bucket


@dataclass
class SharedStore:
    """A store that several workers write: its destination and attributes, and the manifest that stood there `before`."""

    to: Destination
    layout: Layout
    attributes: Attributes
    before: object = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.work = work_fingerprint(self.attributes, self.layout)
        self.name = place_fingerprint(place_of(self.to.url))
        self.before = self._manifest()

    def published(self) -> dict[str, Any] | None:
        """The summary of the store that another worker has put there since this one came; None if none has."""
        if not is_remote(self.to.url) and self._manifest() == self.before:
            return None
        return finished_summary(self.to.url, self.attributes, every_byte=False)  # which that worker has just read back

    def _manifest(self) -> object:
        if is_remote(self.to.url):  # a manifest that is no good is removed before the first chunk
            return None
        try:
            found = Path(self.to.url, MANIFEST).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns


@dataclass
class Worker:
    """One of the processes that write a store.

    `first`: no other worker was there when it came. `pending` are the chunks that were missing then, `damaged` those of them
    that are there. The destination's `on_chunk` is called for each one that another worker has done.
    """

    store: SharedStore
    writer: StoreWriter
    claims: Claims
    first: bool
    pending: list[Part]
    damaged: set[Part]
    leave: Callable[[], None]  # those who share the scratch folder
    written: int = field(default=0, init=False)

    def claimed(self) -> Iterator[Part]:
        """Yield chunks that no other worker computes, to be passed to `write`; ends when all pending ones are done.

        The first worker takes them in order, others begin elsewhere.
        """
        start = 0 if self.first else int(self.claims.worker[-8:], 16) % max(1, len(self.pending))
        left = self.pending[start:] + self.pending[:start]
        while left:
            busy = []
            for part in left:
                if self._done(part):
                    self.store.to.on_chunk()
                    continue
                try:
                    taken = self.claims.take(_name(part))
                except FileNotFoundError:  # others have finished the store meanwhile
                    return
                if not taken:
                    busy.append(part)
                elif self._done(part):  # between the two questions
                    self.claims.release(_name(part))
                    self.store.to.on_chunk()
                else:
                    yield part
            left = busy
            if left:
                time.sleep(REMOTE_POLL if is_remote(self.store.to.url) else POLL)

    def write(self, view: int, chunk: int, arrays: Mapping[str, Tensor | NDArray[Any]]) -> None:
        """Write a chunk that was claimed, as `StoreWriter.write`; nothing if the store was finished meanwhile."""
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
        store, to = self.store, self.store.to
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
                publish_grown(to.url, store.attributes, work, on_wait=to.on_wait, replace=to.replace, place=store.name)
                self.leave()
        return summary

    def _done(self, part: Part) -> bool:
        return self.writer.done(*part) if part in self.damaged else self.writer.committed(*part)


def _name(part: Part) -> str:
    return f"{part[0]}.{part[1]}"


@contextlib.contextmanager
def joining(
    to: Destination, layout: Layout, attributes: Attributes, *, expiry: float = EXPIRY
) -> Iterator[Worker | dict[str, Any]]:
    """Join those who write a store, or be the first of them; of a store that is finished yield the summary.

    `expiry` is the time in seconds after which a silent worker's claims are taken over. Raises InputError if anything but a
    store of prepkd's stands at the destination, and unless it says `replace` also if that is another store; waits while
    processes write one.
    """
    store, root = SharedStore(to, layout, attributes), to.scratch_root
    with contextlib.ExitStack() as held:
        with claimed_store(to.url, root, to.on_wait, work=store.work, patience=PATIENCE):
            if summary := already_finished(to.url, layout, attributes, root):
                yield summary
                return
            if not to.replace:
                refuse_replacing(to.url, attributes)
            with scratch(root, store.work, on_wait=to.on_wait, keep=True, patience=PATIENCE) as work:
                if first := not is_shared(work):
                    shutil.rmtree(work / CLAIMS, ignore_errors=True)  # of dead processes
                membership = held.enter_context(contextlib.ExitStack())
                membership.enter_context(joined(joint(work, store.name)))
                writer = growing_writer(to.url, layout, attributes, work, to.on_wait)
                files = claim_files(writer.store, work / CLAIMS)
        if files is None:
            to.on_wait(
                f"{to.url}: has no conditional put, so two processes may compute the same chunk; its bytes are the same"
            )
        claims = held.enter_context(Claims(files, expiry=expiry))
        # The first one reads back what is there. `finish` reads everything.
        pending = list(writer.pending()) if first else [part for part in writer.parts() if not writer.committed(*part)]
        damaged = {part for part in pending if first and writer.committed(*part)}
        yield Worker(store, writer, claims, first, pending, damaged, membership.close)
    remove_finished(root, store.work)
