"""Read files of torch.save and safetensors: tensors and plain values, never code; name other kinds of files."""

import argparse
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from prepkd.errors import InputError
from prepkd.runtime.machine_faults import raise_if_machine


class _Ignored:
    """A stand-in for a NumPy number in a pickle, so that no NumPy code runs: weights don't need the number."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# RepDistiller and mdistiller save these beside the weights: the command line as a Namespace, which only takes attributes, and
# the optimizer's learning rate, which their schedules turn into a NumPy number.
HARMLESS: list[Any] = [
    argparse.Namespace,
    *((_Ignored, name) for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")),
]

WEIGHTS = "model.safetensors"  # in a checkpoint's folder

# The first bytes of torch.save's files: a zip archive, or a pickle before PyTorch 1.6.
ZIP = b"PK"
STARTS = (ZIP, b"\x80")

UNPACK = "unpack it and name the file of weights in it"
# Bytes at an offset -> the kind of file, and what to do.
OTHER_KINDS: dict[tuple[int, bytes], tuple[str, str]] = {
    (0, b"\x1f\x8b"): ("a gzip archive", UNPACK),
    (0, b"BZh"): ("a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\x00"): ("an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd"): ("a zstd archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c"): ("a 7z archive", UNPACK),
    (0, b"Rar!"): ("a rar archive", UNPACK),
    (257, b"ustar"): ("a tar archive", UNPACK),
    (0, b"\x89HDF"): ("an HDF5 file", "save the weights with torch.save or as safetensors"),
    (0, b"\x93NUMPY"): ("a NumPy array", "save the weights with torch.save or as safetensors"),
    (0, b"version https://git-lfs"): ("a pointer of Git LFS, not the file itself", "run `git lfs pull`"),
    (0, b"<!"): ("a web page, not the file itself", "download it again"),
    (0, b"<html"): ("a web page, not the file itself", "download it again"),
}


def weights_file(path: Path) -> Path:
    """The file of weights that a path names: the path, or in a checkpoint's folder `model.safetensors`."""
    return path / WEIGHTS if path.is_dir() else path


def read_weights_file(path: Path) -> object:
    """Read a file of weights onto the CPU, with any suffix; raises InputError for any other kind of file."""
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected a file of weights, such as one of those in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model's weights")
    start = _first_bytes(path)
    if _is_safetensors(path, start):
        return read_safetensors(path)
    for (offset, magic), (kind, advice) in OTHER_KINDS.items():
        if start[offset:].lower().startswith(magic.lower()):
            raise InputError(f"{path}: {kind}; {advice}")
    return read_pickle(path, kind="a weights file", advice="save tensors only: torch.save(model.state_dict(), path)")


def read_safetensors(path: Path, hint: str = "is the copy complete?") -> dict[str, Tensor]:
    """Read the tensors of a safetensors file onto the CPU; raises InputError for a damaged file."""
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 - beside SafetensorError a strange header raises KeyError, TypeError, ...
        raise_if_machine(error, path)
        raise InputError(f"{path}: not a whole safetensors file: {_first_line(error)}; {hint}") from None


def read_pickle(path: Path, *, kind: str, advice: str) -> object:
    """Read a file of torch.save onto the CPU: tensors and plain values; code in the pickle is never run.

    Raises InputError for a damaged file, for a pickle that would run code, and for other zip archives.
    """
    if _first_bytes(path).startswith(ZIP):
        _check_archive(path, kind)
    try:
        # An opened file: with a path, torch.load would go by the suffix .safetensors.
        with torch.serialization.safe_globals(HARMLESS), path.open("rb") as file:
            return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+\.\w+)", str(error))
        if blocked is None:
            raise InputError(f"{path}: not {kind} of torch.save, or damaged") from None
        raise InputError(f"{path}: loading would run {blocked[1]}, refused; {advice}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file makes the unpickler raise almost anything, from struct.error to KeyError
        start = _first_bytes(path)
        if start and not start.startswith(STARTS):
            raise InputError(f"{path}: not {kind} of torch.save, or damaged") from None
        raise InputError(f"{path}: not a whole file of torch.save: {_first_line(error)}") from None


def _check_archive(path: Path, kind: str) -> None:
    """Refuse zip archives that torch.save did not write, and those that hold more than their own bytes once unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # noqa: BLE001 - a damaged archive raises BadZipFile, struct.error, UnicodeDecodeError, ...
        raise InputError(f"{path}: not a whole file of torch.save: {_first_line(error)}") from None
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{path}: a TorchScript archive, which holds code; save its weights: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)"
        )
    if any(name.endswith("archive_format") for name in names):
        raise InputError(
            f"{path}: an archive of torch.export, which holds code; save its weights: "
            "torch.save(dict(torch.export.load(path).state_dict), new_path)"
        )
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise InputError(f"{path}: a zip archive, not {kind} of torch.save; {UNPACK}")
    # torch.save does not compress: an archive that unpacks to more than its size is a decompression bomb.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(f"{path}: would unpack to more than its own size; torch.save does not compress, save it anew")


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Decide by the suffix, unless torch.save wrote the file; under other suffixes, as `.bin`, by the content."""
    if path.suffix == ".safetensors":
        return not start.startswith(ZIP)
    header = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and header < path.stat().st_size and not start.startswith(STARTS)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
