"""Claims: assign each chunk to one worker, among processes and machines that share a folder or a bucket.

A claim is a small file that is created only if it does not exist; its worker changes it regularly while it runs. A worker that
sees no change for EXPIRY seconds, by its own clock, takes over by creating the claim of the next generation. Clocks of different
machines are never compared and no file is renamed, so a bucket needs conditional puts only. If two workers compute the same
chunk, both write the same bytes.
"""

import contextlib
import errno
import itertools
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from zarr.abc.store import Store
from zarr.core.sync import sync

from prepkd.errors import InputError
from prepkd.runtime.files import has_ended, path_in_errors, this_process
from prepkd.store.layout import CLAIMS
from prepkd.store.place import delete, get, put
from prepkd.store.remote import RemoteStore

EXPIRY = 60.0  # seconds without a change after which another worker may take over
BEATS = 4  # changes of a claim per expiry
MAX_BYTES = 200  # bytes of a claim
# The key of a claim in a store: of a chunk (view.chunk), of finishing the store, or of a trial; then its generation.
CLAIM = re.compile(rf"{CLAIMS}/(\d+\.\d+|finish|trial-[0-9a-f]{{32}})\.\d+")


class ClaimFiles(Protocol):
    """Small files that workers share."""

    def create(self, name: str, content: bytes) -> bool:
        """Create a file atomically; return False if it exists, or if an earlier attempt of this call created it."""

    def state(self, name: str) -> bytes | None:
        """Return a file's content and a suffix that each `beat` changes; None if the file does not exist."""

    def beat(self, name: str, content: bytes) -> None:
        """Change a file's state."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def clear(self) -> None:
        """Remove all files; after that, `create` may raise FileNotFoundError."""


class ClaimFolder:
    """Claims in a folder of a local or network file system; exclusive creation is atomic on NFS, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str, content: bytes) -> bool:
        """Create a file; return False if it exists. Raises FileNotFoundError if the folder does not exist."""
        path = self.folder / name
        try:
            file = path.open("xb")
        except FileExistsError:
            return False
        try:
            with path_in_errors(path), file:
                file.write(content)
        except OSError:
            # A full disk would leave an empty claim of no known worker. The file is never another worker's: "x" did not open it.
            path.unlink(missing_ok=True)
            raise
        return True

    def state(self, name: str) -> bytes | None:
        """Return content and modification time of the opened file: a network file system may cache those of its name."""
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(MAX_BYTES) + f" {os.fstat(file.fileno()).st_mtime_ns}".encode()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # ESTALE: removed on another machine
                raise
            return None

    def beat(self, name: str, content: bytes) -> None:
        """Set the modification time."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Objects:
    """Claims as objects of a bucket, under the store's place."""

    def __init__(self, store: RemoteStore) -> None:
        self.store = store
        self._count = itertools.count()

    def create(self, name: str, content: bytes) -> bool:
        """Create an object; return False if it exists."""
        return sync(self.store.create(f"{CLAIMS}/{name}", content))

    def state(self, name: str) -> bytes | None:
        """An object's content."""
        return get(self.store, f"{CLAIMS}/{name}", MAX_BYTES)

    def beat(self, name: str, content: bytes) -> None:
        """Rewrite an object with a new number, unless it has been removed."""
        if self.state(name) is not None:
            put(self.store, f"{CLAIMS}/{name}", content + f" {next(self._count)}".encode())

    def remove(self, name: str) -> None:
        """Remove an object if it exists."""
        delete(self.store, f"{CLAIMS}/{name}")

    def clear(self) -> None:
        """Remove all claims."""
        clear_claims(self.store)


def clear_claims(store: RemoteStore) -> None:
    """Remove the claims that one listing of a bucket returns."""

    async def listed() -> list[str]:
        return [f"{CLAIMS}/{name.strip('/')}" async for name in store.list_dir(CLAIMS)]

    for key in sync(listed()):
        if CLAIM.fullmatch(key):
            delete(store, key)


def claim_files(store: Store, folder: Path) -> ClaimFiles | None:
    """Return the claim files of a store, in `folder` or in its bucket; None for a bucket without conditional puts."""
    if not isinstance(store, RemoteStore):
        folder.mkdir(exist_ok=True)
        return ClaimFolder(folder)
    objects, trial = Objects(store), f"trial-{uuid.uuid4().hex}.0"
    try:
        made = [objects.create(trial, b"") for _ in range(2)]
    except (InputError, NotImplementedError, TypeError):  # refused by the service, or unknown to the protocol's package
        made = []
    objects.remove(trial)  # raises if the service cannot be reached at all
    # The first may be False as well: the trial's name is new, so an earlier attempt's answer was lost.
    return objects if made[1:] == [False] else None


class Claims:
    """One worker's claims, kept alive by a thread; without `files`, every claim is granted.

    `expiry` is in seconds of `clock`.
    """

    def __init__(
        self, files: ClaimFiles | None, *, expiry: float = EXPIRY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.files, self.expiry, self.clock = files, expiry, clock
        self.worker = f"{this_process()}-{uuid.uuid4().hex}"
        self._held: dict[str, str] = {}  # claim name -> file name
        self._seen: dict[str, tuple[bytes, float]] = {}  # other workers' files: last state, and when it was first seen
        self._changing = threading.Lock()  # held while claims change: a beat would recreate a removed claim
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_the_end, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim `name` unless another worker has a live claim to it; return whether this worker holds it now."""
        if self.files is None:
            return True
        for generation in itertools.count():
            file = f"{name}.{generation}"
            if self.files.create(file, self.worker.encode()):
                break
            if (state := self.files.state(file)) is None:  # released just now
                return False
            if state.startswith(self.worker.encode()):  # created by an earlier request whose response was lost
                break
            if not self._expired(file, state):
                return False
        with self._changing:
            self._held[name] = file
        return True

    def holds(self, name: str) -> bool:
        """Return whether a claim that was taken still exists: finishing the store removes all claims."""
        return self.files is None or self.files.state(self._held[name]) is not None

    def release(self, name: str) -> None:
        """Release a claim after its work is done or has failed."""
        if self.files is not None:
            with self._changing:
                self.files.remove(self._held.pop(name))

    def clear(self) -> None:
        """Remove the claims of all workers, when the work is done."""
        with self._changing:
            self._held.clear()
            if self.files is not None:
                self.files.clear()

    def beat(self) -> None:
        """Change this worker's claims, which shows others that it is alive."""
        with self._changing:
            for file in self._held.values():
                assert self.files is not None
                self.files.beat(file, self.worker.encode())

    def _expired(self, file: str, state: bytes) -> bool:
        owner = state.decode(errors="replace").split(" ")[0].rpartition("-")[0]
        if has_ended(owner):  # known at once for a process of this machine
            return True
        now = self.clock()
        before, since = self._seen.get(file, (None, now))
        if before == state:
            return now - since >= self.expiry
        self._seen[file] = state, now
        return False

    def _beat_until_the_end(self) -> None:
        while not self._ended.wait(self.expiry / BEATS):
            # If the place cannot be reached, at worst a chunk is computed twice; the worker's next write reports the error.
            with contextlib.suppress(InputError, OSError):
                self.beat()
