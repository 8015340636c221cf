"""Several processes write one store: they claim chunks, may join late and die; one of them finishes the store.

A worker holds the locks of `unfinished` while it joins and while it finishes, and none while it computes.
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
class Place:
    """A store's place and attributes, the scratch folder's root, and what the command was told."""

    url: str
    layout: Layout
    attributes: Attributes
    scratch_root: Path
    on_wait: Callable[[str], None]
    replace: bool
    before: object = None  # the manifest that stood there when this worker came

    def __post_init__(self) -> None:
        self.work = work_fingerprint(self.attributes, self.layout)
        self.name = place_fingerprint(place_of(self.url))
        self.before = self._manifest()

    def published(self) -> dict[str, Any] | None:
        """The summary of the store that another worker has put there since this one came; None if none has."""
        if not is_remote(self.url) and self._manifest() == self.before:
            return None
        return finished_summary(self.url, self.attributes, every_byte=False)  # which that worker has just read back

    def _manifest(self) -> object:
        if is_remote(self.url):  # a manifest that is no good is removed before the first chunk
            return None
        try:
            found = Path(self.url, MANIFEST).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns


@dataclass
class Worker:
    """One of the processes that write a store.

    `first`: nobody else was there when it came. `pending` are the chunks that were missing then, `damaged` those of them that
    are there; `on_chunk` is called for each one that is done, here or by another worker.
    """

    place: Place
    writer: StoreWriter
    claims: Claims
    first: bool
    pending: list[Part]
    damaged: set[Part]
    on_chunk: Callable[[], None]
    leave: Callable[[], None]  # those who share the scratch folder
    written: int = field(default=0, init=False)

    def claimed(self) -> Iterator[Part]:
        """Yield chunks that nobody else computes, to be passed to `write`; ends when all pending ones are done.

        The first worker takes them in order, others begin elsewhere.
        """
        start = 0 if self.first else int(self.claims.worker[-8:], 16) % max(1, len(self.pending))
        left = self.pending[start:] + self.pending[:start]
        while left:
            busy = []
            for part in left:
                if self._done(part):
                    self.on_chunk()
                    continue
                try:
                    taken = self.claims.take(_name(part))
                except FileNotFoundError:  # others have finished the store meanwhile
                    return
                if not taken:
                    busy.append(part)
                elif self._done(part):  # between the two questions
                    self.claims.release(_name(part))
                    self.on_chunk()
                else:
                    yield part
            left = busy
            if left:
                time.sleep(REMOTE_POLL if is_remote(self.place.url) else POLL)

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
        place = self.place
        with locked(place_of(place.url), place.scratch_root, place.on_wait), contextlib.ExitStack() as held:
            if (summary := place.published()) is not None:
                return summary
            if is_remote(place.url):
                while not self.claims.take(FINISH):  # a worker on another machine finishes it
                    if (summary := place.published()) is not None:
                        return summary
                    time.sleep(REMOTE_POLL)
                held.callback(self.claims.release, FINISH)
                if (summary := place.published()) is not None:
                    return summary
            with scratch(place.scratch_root, place.work, on_wait=place.on_wait, place=place.name) as work:
                if not is_remote(place.url):
                    self.claims.clear()
                    if not (work / GROWING).exists():
                        raise InputError(f"{work / GROWING}: has been removed; run the same command again")
                summary = self.writer.finish(labels)
                publish_grown(
                    place.url, place.attributes, work, on_wait=place.on_wait, replace=place.replace, place=place.name
                )
                self.leave()
        return summary

    def _done(self, part: Part) -> bool:
        return self.writer.done(*part) if part in self.damaged else self.writer.committed(*part)


def _name(part: Part) -> str:
    return f"{part[0]}.{part[1]}"


@contextlib.contextmanager
def joining(
    url: str,
    layout: Layout,
    attributes: Attributes,
    scratch_root: Path,
    *,
    on_wait: Callable[[str], None],
    on_chunk: Callable[[], None] = lambda: None,
    replace: bool = False,
    expiry: float = EXPIRY,
) -> Iterator[Worker | dict[str, Any]]:
    """Join those who write a store, or be the first of them; of a store that is finished yield the summary.

    `expiry` is the time in seconds after which a silent worker's claims are taken over. Raises InputError if anything but a
    store of prepkd's stands at `url`, and unless `replace` also if that is another store; waits while processes write one.
    """
    place = Place(url, layout, attributes, scratch_root, on_wait, replace)
    with contextlib.ExitStack() as held:
        with claimed_store(url, scratch_root, on_wait, work=place.work, patience=PATIENCE):
            if summary := already_finished(url, layout, attributes, scratch_root):
                yield summary
                return
            if not replace:
                refuse_replacing(url, attributes)
            with scratch(scratch_root, place.work, on_wait=on_wait, keep=True, patience=PATIENCE) as work:
                if first := not is_shared(work):
                    shutil.rmtree(work / CLAIMS, ignore_errors=True)  # of dead processes
                membership = held.enter_context(contextlib.ExitStack())
                membership.enter_context(joined(joint(work, place.name)))
                writer = growing_writer(url, layout, attributes, work, on_wait)
                files = claim_files(writer.store, work / CLAIMS)
        if files is None:
            on_wait(
                f"{url}: has no conditional put, so two processes may compute the same chunk; its bytes are the same"
            )
        claims = held.enter_context(Claims(files, expiry=expiry))
        # The first one reads back what is there. `finish` reads everything.
        pending = list(writer.pending()) if first else [part for part in writer.parts() if not writer.committed(*part)]
        damaged = {part for part in pending if first and writer.committed(*part)}
        yield Worker(place, writer, claims, first, pending, damaged, on_chunk, membership.close)
    remove_finished(scratch_root, place.work)
