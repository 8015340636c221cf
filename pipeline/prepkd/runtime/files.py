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


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError that names no file this one's path: a write or a flush that fails knows only a number."""
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
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`, on failure remove it.

    What killed processes left beside `path` is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with naming(path):
            yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """This process's name beside `path`; what processes that are gone left of it is removed: a full disk must not stay full.

    Elsewhere, on a disk that is shared, a process can't be asked whether it lives: its file goes if nobody touched it for a day.
    """
    here, start = _here(), f".{path.name}."
    for left in path.parent.glob(".*.partial"):
        named = re.fullmatch(r"([0-9a-f]{8})-([1-9]\d{0,8})\.partial", left.name.removeprefix(start))
        if named is None or not left.name.startswith(start):
            continue
        with contextlib.suppress(OSError):  # somebody else was faster, or it is not ours to remove
            if _lives(int(named[2])) if named[1] == here else time.time() - left.stat().st_mtime < DAY:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
    return path.with_name(f"{start}{here}-{os.getpid()}.partial")


def _here() -> str:
    """Where a process's number means something, this machine and in it this container, as 8 hex digits."""
    space = 0
    with contextlib.suppress(OSError):  # Linux has it
        space = Path("/proc/self/ns/pid").stat().st_ino
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically (temporary name, fsync, rename)."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_bytes(value: object) -> bytes:
    """Indented JSON with sorted keys and a last newline, as files hold it."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Write indented JSON with sorted keys, atomically."""
    write_bytes(path, json_bytes(value))


def fingerprint(value: object) -> str:
    """SHA-256 (64 hex digits) of a JSON-able value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def array_fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of named arrays: each one's name, dtype and shape as JSON, then its bytes, in the order of names.

    Little-endian C order whatever the machine; an array of objects is taken as byte strings, each with its length.
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(source: Path, target: Path, *, keep: bool = False) -> None:
    """Move a finished folder to its declared path, replacing what is there; across devices copy, flush, then rename.

    `keep`: copy it, for somebody else needs the source.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    stale = target.with_name(f".{target.name}.{os.getpid()}.stale")
    if keep or not _moved(source, target, stale):
        staged = _temporary(target)
        try:
            _copy(source, staged)
            _swap(staged, target, stale)
        finally:  # a full disk must not be left fuller
            shutil.rmtree(staged, ignore_errors=True)
        if not keep:
            shutil.rmtree(source)
    fsync(target.parent)
    # Also what a process left that was killed between its two renames.
    for left in target.parent.glob(f".{target.name}.*.stale"):
        shutil.rmtree(left, ignore_errors=True)


def _moved(source: Path, target: Path, stale: Path) -> bool:
    """Whether a folder could be moved by a rename, which it can't across devices."""
    try:
        _swap(source, target, stale)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a folder and flush it; the first error ends it, where shutil.copytree would try every file and raise a list."""
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
    """Rename `source` to `target`; a folder that stood there goes to `stale`, and back if the rename fails."""
    if not target.exists():
        source.rename(target)
        return
    target.rename(stale)
    try:
        source.rename(target)
    except OSError:
        stale.rename(target)
        raise
