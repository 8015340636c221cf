"""Files that are never half-written, and fingerprints of canonical content."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY = 24 * 60 * 60
MAX_JSON_BYTES = 2**26
PROCESS = re.compile(r"([0-9a-f]{8})-([1-9]\d{0,8})")  # of `this_process`
PUBLISHED = ".published"  # suffix of a source folder whose copy is already at the declared path


@contextlib.contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Add this path to an OSError without a file name: a failing write or flush knows only a file descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def fsync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk; a rename survives a power cut once its folder is flushed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with path_in_errors(path):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`, on failure remove it.

    Temporary files that killed processes left beside `path` are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with path_in_errors(path):
            yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success flush it and replace `target` with it, on failure remove it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            fsync(path)
        publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """Return this process's temporary name beside `path`; remove those of dead processes, to free disk space."""
    _remove_left(path, "partial")
    return _own_name(path, "partial")


def _own_name(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{this_process()}.{ending}")


def remove_leftovers(path: Path) -> None:
    """Remove files and folders that killed processes left beside `path`: temporary ones, and replaced versions."""
    _remove_left(path, "partial")
    _remove_left(path, "stale")


def _remove_left(path: Path, ending: str) -> None:
    """Remove dead processes' files and folders of this ending beside `path`.

    A process of another machine that shares the disk, or from before a restart, can't be checked: its file is removed once it
    is a day old.
    """
    start = f".{path.name}."
    for left in path.parent.glob(f".*.{ending}"):
        process = left.name.removeprefix(start).removesuffix(f".{ending}")
        if not PROCESS.fullmatch(process) or not left.name.startswith(start):
            continue
        with contextlib.suppress(OSError):  # another process removed it first, or we lack the permission
            ended = has_ended(process)
            if not ended if ended is not None else time.time() - left.stat().st_mtime < DAY:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def this_process() -> str:
    """Identify this process and its machine, as 8 hex digits and the process id: `0f9c21ab-4711`."""
    return f"{_here()}-{os.getpid()}"


def has_ended(process: str) -> bool | None:
    """Whether a process identified by `this_process` has ended.

    None if it ran on another machine, in another container or before a restart, or if the text is no identity.
    """
    if not (named := PROCESS.fullmatch(process)) or named[1] != _here():
        return None
    return not _lives(int(named[2]))


def _here() -> str:
    """Identify the machine, its boot and the container in which a process id is valid, as 8 hex digits."""
    boot, space = "", 0
    # Machines of one name, such as clones, have different boots but the same first namespace; containers of one machine have
    # the same boot but different namespaces. Only Linux has these files.
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        space = Path("/proc/self/ns/pid").stat().st_ino
    return hashlib.sha256(f"{socket.gethostname()} {boot} {space}".encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically (temporary name, fsync, rename)."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def canonical_json(value: object) -> str:
    """Format JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_bytes(value: object) -> bytes:
    """Format indented JSON with sorted keys and a final newline, as bytes of a file."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Write indented JSON with sorted keys, atomically."""
    write_bytes(path, json_bytes(value))


def read_object(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a file with a JSON object; raises ValueError, saying why, for anything else and for more than `limit` bytes."""
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{size:,} bytes; expected at most {limit:,}")
    return json_object(path.read_bytes())


def json_object(content: str | bytes) -> dict[str, Any]:
    """Parse a JSON object; raises ValueError, saying why, for anything else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__}; expected a JSON object")
    return found


def fingerprint(value: object) -> str:
    """Return the SHA-256 (64 hex digits) of a JSON-able value's canonical form."""
    return sha256(canonical_json(value).encode())


def array_fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of named arrays: per array its name, dtype and shape as JSON, then its bytes, sorted by name.

    Bytes are little-endian in C order on any machine; an array of objects is hashed as byte strings, each with its length.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(canonical_json([name, array.dtype.str.replace(">", "<"), list(array.shape)]).encode())
        if array.dtype == object:
            for item in array.ravel():
                digest.update(len(item).to_bytes(8, "little") + bytes(item))
        else:
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def sha256(content: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a damaged file, or a folder in its place, to `<name>.damaged`, replacing an earlier one; return the new path."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
    return path.rename(aside)


def publish(source: Path, target: Path, *, keep: bool = False) -> None:
    """Move a finished folder to its declared path, replacing an existing one; across devices copy, flush, then rename.

    With `keep` the source is copied and stays, because another process needs it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    stale = _own_name(target, "stale")
    if keep or not _moved(source, target, stale):
        staged = _temporary(target)
        try:
            _copy(source, staged)
            _swap(staged, target, stale)
        finally:  # a full disk must not be left fuller
            shutil.rmtree(staged, ignore_errors=True)
        if not keep:
            # Renamed first: if this process is killed here, the rest must not be mistaken for unfinished work.
            shutil.rmtree(source.rename(source.with_name(f"{source.name}{PUBLISHED}")))
    fsync(target.parent)
    shutil.rmtree(stale, ignore_errors=True)
    remove_leftovers(target)


def _moved(source: Path, target: Path, stale: Path) -> bool:
    """Move a folder by renaming; return False across devices, where renaming is impossible."""
    try:
        _swap(source, target, stale)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a folder and flush it; stops at the first error, unlike shutil.copytree, which tries every file and raises a list."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copy2(path, copy)
    for path in (*target.rglob("*"), target):
        fsync(path)


def _swap(source: Path, target: Path, stale: Path) -> None:
    """Rename `source` to `target`; a folder already there goes to `stale`, and back if the rename fails."""
    if not target.exists():
        source.rename(target)
        return
    target.rename(stale)
    try:
        source.rename(target)
    except OSError:
        stale.rename(target)
        raise
