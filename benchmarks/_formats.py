"""File formats to compare the store with; each writes, reads and looks up the same arrays of a view."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from prepkd.runtime.files import fsync

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Format:
    """`write(path, arrays)` writes one view, flushed on return unless its function says otherwise; `read(path)` copies the
    whole view; `lookup(paths, views, samples)` returns the logits and maxima of (view, sample) pairs."""

    write: Callable[[Path, Arrays], None]
    read: Callable[[Path], object]
    lookup: Callable[[list[Path], NDArray[np.int64], NDArray[np.int64]], object]


def raw_write(path: Path, arrays: Arrays) -> None:
    """Write the arrays' bytes to one file with one fsync: the minimal cost of a view on disk."""
    with path.open("wb") as file:
        for array in arrays.values():
            file.write(array.data)
        file.flush()
        os.fsync(file.fileno())


def npy_write(path: Path, arrays: Arrays) -> None:
    """Write a folder with one .npy file per array."""
    path.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
        fsync(path / f"{name}.npy")


def npy_read(path: Path) -> Arrays:
    """Read every .npy file as a whole."""
    return {file.stem: np.load(file) for file in sorted(path.glob("*.npy"))}


def npy_lookup(paths: list[Path], views: NDArray[np.int64], samples: NDArray[np.int64]) -> object:
    """Read rows from newly opened memory maps."""
    names = ("logits", "row_max")
    return [
        {name: np.load(paths[view] / f"{name}.npy", mmap_mode="r")[samples[views == view]] for name in names}
        for view in np.unique(views)
    ]


def hdf5_write(path: Path, arrays: Arrays) -> None:
    """Write one HDF5 file, with fletcher32 on chunks of 256 samples."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            chunks = (min(256, len(array)), *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)
    fsync(path)


def hdf5_read(path: Path) -> Arrays:
    """Read every data set as a whole."""
    with h5py.File(path, "r") as file:
        return {name: file[name][...] for name in file}


def hdf5_lookup(paths: list[Path], views: NDArray[np.int64], samples: NDArray[np.int64]) -> object:
    """Read rows by index lists, in rising order as HDF5 requires."""
    found = []
    for view in np.unique(views):
        rows = np.unique(samples[views == view])
        with h5py.File(paths[view], "r") as file:
            found.append({name: file[name][rows] for name in ("logits", "row_max")})
    return found


def files_write(path: Path, arrays: Arrays) -> None:
    """Write one torch.save file per sample, without flushing: 50,000 fsyncs would take a minute."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for i in range(len(arrays["logits"])):
        # A row is a view into the whole array: without the clone torch.save would write the whole array.
        torch.save({name: tensor[i].clone() for name, tensor in tensors.items()}, path / f"{i}.pt")


def files_read(path: Path) -> object:
    """Read every sample's file and stack them."""
    rows = [torch.load(path / f"{i}.pt", weights_only=True) for i in range(sum(1 for _ in path.iterdir()))]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def files_lookup(paths: list[Path], views: NDArray[np.int64], samples: NDArray[np.int64]) -> object:
    """Read the files of those samples."""
    pairs = zip(views, samples, strict=True)
    return [torch.load(paths[view] / f"{sample}.pt", weights_only=True) for view, sample in pairs]


SLOW = "torch.save a sample"
FORMATS = {
    "raw .npy": Format(npy_write, npy_read, npy_lookup),
    "HDF5, fletcher32": Format(hdf5_write, hdf5_read, hdf5_lookup),
    SLOW: Format(files_write, files_read, files_lookup),
}
