"""Locked folders for unfinished work: kept when work stops, shared by processes that do the same work."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


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
        on_wait(f"{folder}: another process is doing the same work; waiting for it to end")
        with FileLock(f"{folder}.next") as line:
            lock.acquire()
            Path(line.lock_file).unlink()
    try:
        yield
    finally:
        lock.release()
