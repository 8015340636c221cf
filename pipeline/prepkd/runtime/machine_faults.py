"""Faults of the machine that the user can fix: a full disk, missing permissions, exhausted memory, threads or files."""

import contextlib
import errno
import os
import re
from pathlib import Path

REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "allow larger files (ulimit -f), or use another file system",
    errno.EROFS: "make it writable",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EIO: "look at the disk",
    errno.ESTALE: "look at the network file system",
    errno.ENOTCONN: "look at the network file system",
    errno.EEXIST: "move what is in the way",
    errno.ENOTDIR: "move what is in the way",
    errno.EISDIR: "move what is in the way",
    errno.ENOTEMPTY: "move what is in the way",
    errno.ELOOP: "remove the link that leads to itself",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close files, or allow more on this machine",
    errno.ENOMEM: "free memory, or use less of it (a smaller batch_size)",
    errno.EAGAIN: "allow more processes and threads (ulimit -u)",
    errno.ENOLCK: "this file system has no locks: set PREPKD_SCRATCH to a folder on another one",
}

# Libraries that exhaust a resource raise errors without an errno.
EXHAUSTED = {
    r"can't start new thread|[Rr]esource temporarily unavailable": errno.EAGAIN,
    r"[Tt]oo many open files": errno.EMFILE,
    # oneDNN out of memory; with "primitive descriptor" it reports an unsupported operation.
    r"could not (create|execute) a primitive(?! descriptor)": errno.ENOMEM,
    r"out of memory|[Cc]an(not|'t) allocate memory|not enough memory|ALLOC_FAILED|bad_alloc": errno.ENOMEM,
    r"failed to map segment": errno.ENOMEM,  # the loader of shared libraries
}


def explained(error: BaseException) -> str | None:
    """One line on a fault of the machine: the file if known, the cause, the remedy; None for any other error."""
    number = error_number(error)
    if number not in REMEDIES:
        return None
    file, why = None, " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno:
        # A copy names its source first; HDF5 puts everything, line breaks included, into the message.
        file, why = error.filename2 or error.filename, " ".join(str(error.strerror).split())
    why = why or os.strerror(number)  # a MemoryError often has no message
    said = f"{file}: {why}" if file else why
    return f"{said}; finished work is kept: {REMEDIES[number]}, then run the same command again"


def error_number(error: BaseException) -> int | None:
    """The errno of an OSError, or the matching one for a library's error of an exhausted resource; None for any other error."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    panic = type(error).__name__ == "PanicException"  # a Rust library's; its type can't be imported
    if not (panic or isinstance(error, OSError | RuntimeError | ImportError)):
        return None
    return next((number for text, number in EXHAUSTED.items() if re.search(text, str(error))), None)


def raise_if_machine(error: Exception, path: Path) -> None:
    """Raise a plain OSError about `path` if a library's read error is a fault of the machine, not of the file's content."""
    number = error_number(error)
    if number in REMEDIES and not isinstance(error, MemoryError):  # a false header can request any amount of memory
        raise OSError(number, os.strerror(number), str(path)) from error


def need_descriptors(count: int) -> None:
    """Raise an OSError unless this process may open `count` more files; without them a Rust library would panic."""
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(Path(os.devnull).open("rb"))
