"""Locked folders for unfinished work: kept when work stops, shared by processes that do the same work."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from prepkd.errors import InputError
from prepkd.runtime.files import PUBLISHED


@contextlib.contextmanager
def scratch(root: Path, fingerprint: str, *, on_wait: Callable[[str], None], keep: bool = False) -> Iterator[Path]:
    """Lock `root/fingerprint`, the folder of one piece of unfinished work, and yield it.

    It is kept on failure, and on success with `keep` or while another process waits for it. If another process does the same
    work, such as a second queued experiment with the same teacher, call `on_wait` with one line, wait for it, then resume
    from its (usually complete) result.
    """
    folder = root / fingerprint
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _turn(folder, on_wait):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
            if not keep and not is_awaited(folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            _remove_empty(folder)


def remove_finished(root: Path, fingerprint: str) -> None:
    """Remove the folder and the lock of published work, left by a process that was killed before it could.

    Work that another process does, or that is not published, stays.
    """
    folder = root / fingerprint
    if not folder.exists() and not Path(f"{folder}.lock").exists():
        return
    with (
        contextlib.suppress(OSError),
        FileLock(f"{folder}.lock", timeout=0),
    ):  # a timeout is an OSError: it is not left over
        for done in folder.glob(f"*{PUBLISHED}"):
            shutil.rmtree(done)
        if not is_awaited(folder):
            _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Remove a scratch folder if it is empty, and then its lock, which is held."""
    with contextlib.suppress(OSError):  # not empty: work to resume
        folder.rmdir()
    if not folder.exists():
        # Unlink while the lock is held: later it could be the lock that another process has just taken.
        Path(f"{folder}.lock").unlink(missing_ok=True)


def is_awaited(folder: Path) -> bool:
    """Whether another process waits for a scratch folder; it would repeat the work if the folder were removed."""
    with contextlib.suppress(Timeout), FileLock(f"{folder}.next", timeout=0) as line:
        Path(line.lock_file).unlink()
        return False
    return True


@contextlib.contextmanager
def _turn(folder: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a scratch folder's lock; the first process that waits holds `.next`, later ones wait for `.next`."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
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
    """Raise InputError if a lock on a new file is refused: some network file systems have none, and answer as if it were held."""
    with tempfile.TemporaryFile(dir=folder) as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder}: its file system has no locks ({error.strerror}), which unfinished work needs; set PREPKD_SCRATCH "
                "to a folder on another one"
            ) from None
