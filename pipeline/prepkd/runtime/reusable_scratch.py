"""Training work in scratch: resumed by the same software only, and kept when finished.

So a run with a sixth seed does not train the first five again.
"""

import contextlib
import functools
import hashlib
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from prepkd.runtime.files import fingerprint as fingerprint_of
from prepkd.runtime.files import write_bytes
from prepkd.runtime.scratch import scratch

MAX_BYTES = 2 * 2**30  # bytes of all finished work in one scratch folder
MARK = "finished"  # holds the machine's name
SOFTWARE = "software"  # holds the fingerprint of the software that began the work
NUMERICS = ("torch", "torchvision", "timm", "numpy")


@contextlib.contextmanager
def versioned_scratch(
    root: Path, fingerprint: str, *, on_wait: Callable[[str], None], keep: bool = False
) -> Iterator[Path]:
    """Like `scratch`, but remove work of another version of this package or of its libraries first, and tell `on_wait`.

    The fingerprint does not cover the code, and work that two versions did has the bytes of neither.
    """
    with scratch(root, fingerprint, on_wait=on_wait, keep=keep) as folder:
        record, software = folder / SOFTWARE, software_fingerprint().encode()
        if any(folder.iterdir()) and not (record.is_file() and record.read_bytes() == software):
            on_wait(f"{folder}: work of another version of prepkd or of its libraries is removed; training starts anew")
            _clear(folder)
        write_bytes(record, software)
        try:
            yield folder
        finally:
            if all(file == record for file in folder.glob("*")):  # no work to resume: `scratch` removes an empty folder
                record.unlink(missing_ok=True)


@contextlib.contextmanager
def reusable_scratch(
    root: Path, fingerprint: str, *, on_wait: Callable[[str], None], limit: int = MAX_BYTES
) -> Iterator[Path]:
    """Like `versioned_scratch`, but keep finished work in the folder for later runs of the same fingerprint.

    Finished work of another machine, whose last bits may differ, is removed first; unfinished work is resumed on any machine.
    Beyond `limit` bytes of finished work in total, the least recently used is removed.
    """
    with versioned_scratch(root, fingerprint, on_wait=on_wait, keep=True) as folder:
        mark, machine = folder / MARK, platform.node().encode()
        if mark.is_file() and mark.read_bytes() != machine:
            _clear(folder)
            write_bytes(folder / SOFTWARE, software_fingerprint().encode())
        yield folder
        write_bytes(mark, machine)
    _prune(root, limit)


@functools.cache
def software_fingerprint() -> str:
    """Fingerprint the software: this package's source and the versions of the numerical libraries."""
    code = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        code.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    versions = {}
    for name in NUMERICS:
        with contextlib.suppress(PackageNotFoundError):  # timm is optional
            versions[name] = version(name)
    return fingerprint_of({"code": code.hexdigest(), "versions": versions})


def _clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _prune(root: Path, limit: int) -> None:
    """Remove the least recently used finished work beyond `limit` bytes; work that another process uses stays."""
    marks = sorted(root.glob(f"*/{MARK}"), key=_age)
    total = 0
    for folder in (mark.parent for mark in marks):
        with contextlib.suppress(OSError, Timeout):  # another process uses it, or has just removed it
            total += sum(file.stat().st_size for file in folder.iterdir())
            if total > limit:
                with FileLock(f"{folder}.lock", timeout=0) as lock:
                    shutil.rmtree(folder)
                    Path(lock.lock_file).unlink()


def _age(mark: Path) -> float:
    """Sort key in seconds: the most recently used first, a missing mark last."""
    try:
        return -mark.stat().st_mtime
    except OSError:
        return 0.0
