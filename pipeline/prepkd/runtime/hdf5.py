"""Untrusted HDF5 files: every value must be in the file itself, and any fault is one line.

Values of variable length are in HDF5's global heap, which it may read without end if one byte is damaged: in C, where no signal
but SIGKILL ends it.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.errors import InputError, one_line
from prepkd.runtime.machine_faults import raise_if_machine

_DAMAGED = (AttributeError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError)  # what h5py raises
STRINGS_SECONDS = 60.0  # most of it for a busy machine to start Python
_PRINT_STRINGS = """
import h5py, json, sys
with h5py.File(sys.argv[1], "r") as file:
    json.dump([one.hex() for one in file[sys.argv[2]][()]], sys.stdout)
"""


@contextlib.contextmanager
def opened(path: Path, *, expected: str, remedy: str, locking: bool | None = None) -> Iterator[h5py.File]:
    """Open an untrusted file for reading; what h5py raises then, and in the `with` block, becomes an InputError.

    Raises OSError for a fault of the machine.
    """
    try:
        with h5py.File(path, "r", locking=locking) as file:
            _refuse_outside_values(path, file)
            yield file
    except InputError:
        raise
    except _DAMAGED as error:
        refuse_locked(error, path)  # HDF5_USE_FILE_LOCKING=TRUE takes precedence over `locking`
        raise_if_machine(error, path)
        raise InputError(f"{path}: not {expected}: {one_line(error)}; {remedy}") from None


def values(dataset: h5py.Dataset) -> NDArray[Any]:
    """All values of a dataset, of its shape and dtype; raises ValueError for values of variable length, without reading them."""
    _refuse_heap(dataset.name, dataset.dtype)
    return np.asarray(dataset)


def attribute(owner: h5py.Group, name: str) -> Any:
    """An attribute's value; raises KeyError if it is missing, and ValueError, without reading it, if it is of variable length."""
    _refuse_heap(f"attribute {name} of {owner.name}", owner.attrs.get_id(name).dtype)
    return owner.attrs[name]


def variable_length_strings(path: Path, name: str) -> list[bytes]:
    """Read the dataset `name`, strings (N,), in a process that is killed after `STRINGS_SECONDS`; raises ValueError then."""
    command = (sys.executable, "-P", "-c", _PRINT_STRINGS, str(path), name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STRINGS_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{name}: its strings were not read within {STRINGS_SECONDS:g} seconds") from None
    if done.returncode:
        said = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"{name}: its strings can't be read: {said[-1]}")
    return [bytes.fromhex(one) for one in json.loads(done.stdout)]


def _refuse_heap(where: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise ValueError(f"{where} holds values of variable length; expected a fixed one")


def _refuse_outside_values(path: Path, file: h5py.File) -> None:
    """Check that every dataset keeps all its values in this file; raises InputError naming one that does not.

    Call it before reading anything. HDF5 opens every file that external storage, an external link or a virtual dataset names,
    reads unwritten values as zeros, and crashes on a virtual dataset that refers to itself.
    """
    groups: list[h5py.Group] = [file]
    seen: set[int] = set()
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{path}: {f'{group.name}/{name}'.lstrip('/')}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise InputError(
                    f"{where}: an external link to {link.path!r} in {link.filename!r}; {_remedy('the array itself')}"
                )
            if isinstance(link, h5py.SoftLink):  # its target is checked under its own name, or is an external link
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset) and (problem := _problem(item)):
                raise InputError(f"{where}: {problem}")
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group) and address not in seen:
                groups.append(item)
            seen.add(address)


def refuse_locked(error: Exception, path: Path) -> None:
    """Raise InputError if HDF5 could not lock a file: it is not damaged, and EAGAIN's usual remedy does not help."""
    if "lock file" in str(error):
        raise InputError(
            f"{path}: can't be locked for reading: another process writes it, or its file system has no locks; "
            "wait for the writer, or set HDF5_USE_FILE_LOCKING=FALSE"
        ) from None


def _problem(dataset: h5py.Dataset) -> str | None:
    """Describe where a dataset's values are if they are outside its file; None if they are inside."""
    if dataset.is_virtual:  # first, because reading the shape below opens a virtual dataset's sources
        return f"a virtual dataset, made of others; {_remedy('an array with values of its own')}"
    if dataset.external:
        return f"external storage, values in {dataset.external[0][0]!r}; {_remedy('values in this file')}"
    if not dataset.size:
        return None
    if dataset.chunks is None:
        return None if dataset.id.get_storage_size() else f"no values were written; {_remedy('an array with values')}"
    chunks = 1
    for length, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        chunks *= -(-length // chunk)
    if (written := dataset.id.get_num_chunks()) < chunks:
        return f"{written:,} of {chunks:,} chunks were written; {_remedy('all values')}"
    return None


def _remedy(expected: str) -> str:
    return f"expected {expected}; write it anew, as file[name] = array"
