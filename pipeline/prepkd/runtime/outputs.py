"""Outputs of a command: existing files are replaced only if prepkd wrote them; one process at a time writes to an output."""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from prepkd.errors import InputError
from prepkd.runtime.files import fingerprint

REMEDY = "move it away, or name another place"
WAITING = "{}: another process is writing there; waiting for it to end"
# Temporary names of `runtime.files.atomic_file` and `atomic_folder`, used until the file is complete.
LEFTOVER = re.compile(r"\.[^/]+\.[0-9a-f]{8}-\d+\.partial")


@dataclass(frozen=True)
class Output:
    """A file or folder that a command writes.

    `files` maps a pattern of paths in the folder ("" for a single file) to a test of whether prepkd wrote such a file.
    """

    path: Path
    files: Mapping[str, Callable[[Path], bool]]

    def wrote(self, name: str) -> bool:
        """Whether prepkd wrote the file at this path in the folder; a link to such a file counts, since DVC makes links."""
        path = self.path / name
        if LEFTOVER.fullmatch(path.name):
            return True
        tests = (test for pattern, test in self.files.items() if re.fullmatch(pattern, name))
        return path.is_file() and any(test(path) for test in tests)


def paths_in(folder: Path) -> Iterator[str]:
    """Yield the paths of all entries in a folder that are not folders, sorted by folder; links are not followed."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(parent, name).relative_to(folder).as_posix()


def refuse_blocked(path: Path) -> None:
    """Raise InputError if one of the path's parents exists and is not a folder."""
    for parent in path.parents:
        if os.path.lexists(parent) and not parent.is_dir():
            raise InputError(f"{parent}: expected a folder, found {kind_of_file(parent)}; {REMEDY}")


def kind_of_file(path: Path) -> str:
    """The kind of file at a path, as messages name it."""
    mode = path.lstat().st_mode
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def refuse_foreign(output: Output) -> None:
    """Raise InputError if any file at an output's path was not written by prepkd, or is damaged beyond recognition."""
    path, whole = output.path, "" in output.files
    refuse_blocked(path)
    if whole:
        if os.path.lexists(path) and not output.wrote(""):
            raise InputError(
                f"{path}: expected a file that prepkd wrote, or nothing; found {kind_of_file(path)}; {REMEDY}"
            )
        return
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(f"{path}: expected a folder, or nothing; found {kind_of_file(path)}; {REMEDY}")
    if foreign := next((name for name in paths_in(path) if not output.wrote(name)), None):
        raise InputError(f"{path}: holds {foreign}, which is no file that prepkd wrote; {REMEDY}")


def remove(output: Output) -> None:
    """Remove the files that prepkd wrote to an output folder, then its empty folders."""
    for name in list(paths_in(output.path)):
        if output.wrote(name):
            (output.path / name).unlink()
    for parent, _, _ in os.walk(output.path, topdown=False):
        with contextlib.suppress(OSError):  # not empty
            Path(parent).rmdir()


@contextlib.contextmanager
def claimed(outputs: Iterable[Output], locks: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the locks of all outputs; raises InputError if an output's path holds files that prepkd did not write."""
    found = sorted(outputs, key=lambda output: output.path.absolute())  # one order for all processes: no deadlock
    with contextlib.ExitStack() as held:
        for output in found:
            refuse_foreign(output)
            held.enter_context(locked(output.path, locks, on_wait))
            refuse_foreign(output)  # again: another process may have held the lock
        yield


@contextlib.contextmanager
def locked(
    place: Path | str, locks: Path, on_wait: Callable[[str], None], *, file: str | None = None, patience: float = 0
) -> Iterator[None]:
    """Hold the lock of a path or URL, a file in `locks`; while another process holds it, call `on_wait` once and wait.

    `file` is the lock file's name, by default derived from the place; `on_wait` is called after `patience` seconds.
    """
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / (file or f"{place_fingerprint(place)}.lock"))
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        on_wait(WAITING.format(place))
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while held; a waiting process then creates a new lock file
        lock.release()


def place_fingerprint(place: Path | str) -> str:
    """Identify a path or URL, 64 hex digits. A link is not followed: DVC links equal files to one file in its cache."""
    name = str(place.parent.resolve() / place.name) if isinstance(place, Path) else place.rstrip("/")
    return fingerprint(["output", name])
