"""Locked folders for unfinished work: kept when work stops, shared by processes that do the same work.

Processes that work together join: each holds a shared lock on a file in the folder, named after the work's destination.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from prepkd.errors import InputError
from prepkd.runtime.files import PUBLISHED

JOINED = ".joined"


@contextlib.contextmanager
def scratch(
    root: Path,
    fingerprint: str,
    *,
    on_wait: Callable[[str], None],
    keep: bool = False,
    place: str = "",
    patience: float = 0,
) -> Iterator[Path]:
    """Lock `root/fingerprint`, the folder of one piece of unfinished work, and yield it.

    The folder is kept on failure. On success it is kept with `keep`, or while another process waits for it or has joined for
    another place than `place`. If another process does the same work, such as a second queued experiment with the same teacher,
    call `on_wait` with one line after `patience` seconds, wait for it, then resume from its (usually complete) result.
    """
    folder = root / fingerprint
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _turn(folder, on_wait, patience):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
            if not keep and not is_awaited(folder, place):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            _remove_empty(folder)


def remove_finished(root: Path, fingerprint: str) -> None:
    """Remove the folder and lock of published work that a killed process left behind.

    Unpublished work, and work that another process is doing, stays.
    """
    folder = root / fingerprint
    if not folder.exists() and not Path(f"{folder}.lock").exists():
        return
    # A timeout is an OSError: another process holds the lock.
    with contextlib.suppress(OSError), FileLock(f"{folder}.lock", timeout=0):
        for done in folder.glob(f"*{PUBLISHED}"):
            shutil.rmtree(done)
        if not is_awaited(folder):
            _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Remove a scratch folder if it is empty, and then its lock file; the caller holds the lock."""
    with contextlib.suppress(OSError):  # not empty: work to resume
        folder.rmdir()
    if not folder.exists():
        # Unlink while the lock is held: later, another process could already hold a lock on this file.
        Path(f"{folder}.lock").unlink(missing_ok=True)


def is_awaited(folder: Path, place: str = "") -> bool:
    """Whether another process waits for a scratch folder, or has joined the work for another place than `place`.

    Such a process would repeat the work if the folder were removed.
    """
    with contextlib.suppress(Timeout), FileLock(f"{folder}.next", timeout=0) as line:
        Path(line.lock_file).unlink()
        return is_shared(folder, place)
    return True


def is_shared(folder: Path, but: str = "") -> bool:
    """Whether any process has joined the work in a scratch folder for another place than `but`."""
    # A list, so that every file is checked: `has_members` removes those of dead processes.
    return any([has_members(file) for file in folder.glob(f"*{JOINED}") if file != member_lock_path(folder, but)])


def member_lock_path(folder: Path, place: str) -> Path:
    """The file whose lock is shared by all processes that do a folder's work for a place."""
    return folder / f"{place}{JOINED}"


@contextlib.contextmanager
def hold_member_lock(file: Path) -> Iterator[None]:
    """Share a file's lock. Call it under the same lock as `has_members`; that lock may be released earlier."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def has_members(file: Path) -> bool:
    """Whether any process shares a file's lock; a file without such a process is removed."""
    try:
        handle = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def _turn(folder: Path, on_wait: Callable[[str], None], patience: float) -> Iterator[None]:
    """Hold a scratch folder's lock; the first waiting process holds `.next`, later ones wait for `.next`."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        _refuse_without_locks(folder.parent)
        on_wait(f"{folder}: another process is doing the same work; waiting for it to end")
        with FileLock(f"{folder}.next") as line:
            lock.acquire()
            Path(line.lock_file).unlink()
    try:
        yield
    finally:
        lock.release()


def _refuse_without_locks(folder: Path) -> None:
    """Raise InputError if a new file can't be locked: some network file systems lack locks and report them as held."""
    with tempfile.TemporaryFile(dir=folder) as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder}: its file system has no locks ({error.strerror}), which unfinished work needs; set PREPKD_SCRATCH "
                "to a folder on another one"
            ) from None
