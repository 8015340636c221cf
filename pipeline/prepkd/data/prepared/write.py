"""Write the prepared HDF5 file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from prepkd.data.images.faults import Faults
from prepkd.data.images.files import ImageFiles
from prepkd.data.images.statistics import Statistics
from prepkd.data.prepared.file import FORMAT, describe
from prepkd.data.prepared.fingerprints import (
    data_fingerprint,
    encoded_fingerprint,
    split_fingerprint,
    streamed_fingerprint,
)
from prepkd.data.prepared.sparse_file import SparseFile
from prepkd.data.sources.raw import Labelled, RawData
from prepkd.errors import InputError
from prepkd.runtime.files import atomic_file

MAX_ATTRIBUTE_BYTES = 60_000  # bytes; HDF5's limit is 64 KiB, its header included


class WrittenFile(NamedTuple):
    """The prepared file's fingerprint, and the number of images whose EXIF orientation is not upright."""

    fingerprint: str
    rotated: int


def write(data: RawData, splits: Mapping[str, Labelled], path: Path, *, replace: bool) -> WrittenFile:
    """Write these splits of `data`; raises InputError naming the files that are not images.

    Only a few image files are in memory at once. Without `replace`, raises InputError, and keeps `path`, if it holds other data.
    """
    files = {name: (images, labels) for name, (images, labels) in splits.items() if isinstance(images, ImageFiles)}
    fingerprints = {
        name: split_fingerprint(images, labels)
        for name, (images, labels) in splits.items()
        if not isinstance(images, ImageFiles)
    }
    statistics = None
    orientations = {name: np.ones(len(labels), dtype=np.uint8) for name, (_, labels) in files.items()}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        if files:
            # Laid out twice: files are read once and written directly to their offsets; fingerprints, orientations and
            # statistics are known only afterwards.
            if files["train"][0].encoded:
                statistics = Statistics.of_counts(np.ones((3, 256), dtype=np.int64))
            _, places = _layout(data, splits, dict.fromkeys(splits, "0" * 64), statistics, orientations)
            faults = Faults()
            for name, (images, labels) in files.items():
                file.seek(places[name])
                fingerprints[name], counts = _copy(images, labels, file, orientations[name], faults)
                if statistics is not None and name == "train" and not faults.count:
                    statistics = Statistics.of_counts(counts)
            faults.refuse(files["train"][0].root)
        layout, _ = _layout(data, splits, fingerprints, statistics, orientations)
        layout.copy_to(file)
        whole = data_fingerprint(data.dataset, data.class_names, fingerprints, statistics)
        if not replace:
            _refuse_other_data(path, whole, {name: len(labels) for name, (_, labels) in splits.items()})
    return WrittenFile(whole, sum(int((found != 1).sum()) for found in orientations.values()))


def _refuse_other_data(path: Path, fingerprint: str, splits: Mapping[str, int]) -> None:
    """Raise InputError if a file holds prepared data of another fingerprint; damaged data can't be read from it."""
    try:
        found = describe(path)
    except InputError:
        return
    if found.fingerprint != fingerprint:
        had, wanted = (
            ", ".join(f"{count:,} in {name}" for name, count in sorted(one.items())) for one in (found.splits, splits)
        )
        raise InputError(
            f"{path}: holds other data ({had}; fingerprint {found.fingerprint[:12]}) than these settings give ({wanted}; "
            f"{fingerprint[:12]}); --replace replaces it"
        )


def _copy(
    images: ImageFiles, labels: NDArray[np.int64], file: IO[bytes], orientations: NDArray[np.uint8], faults: Faults
) -> tuple[str, NDArray[np.int64]]:
    """Write every file's bytes or pixels, and set `orientations`; files that are not images are added to `faults`.

    Return the split's fingerprint and, for encoded images, the counts of pixel values (3, 256).
    """
    counts = np.zeros((3, 256), dtype=np.int64)

    def contents() -> Iterator[bytes | memoryview]:
        for i, found in enumerate(images.read(faults)):
            orientations[i] = found.orientation
            if found.counts is not None:
                np.add(counts, found.counts, out=counts)
            content = found.content if found.pixels is None else np.ascontiguousarray(found.pixels).data
            file.write(content)
            yield content

    if images.keeps_pixels and images.shape is not None:
        return streamed_fingerprint(np.dtype(np.uint8), (len(images), *images.shape), contents(), labels), counts
    return encoded_fingerprint(contents(), labels, orientations if images.upright else None), counts


def _layout(
    data: RawData,
    splits: Mapping[str, Labelled],
    fingerprints: Mapping[str, str],
    statistics: Statistics | None,
    orientations: Mapping[str, NDArray[np.uint8]],
) -> tuple[SparseFile, dict[str, int]]:
    """Build the HDF5 file without the contents of image files; also return the offset of each split's contents."""
    layout = SparseFile()
    places: dict[str, int] = {}
    whole = data_fingerprint(data.dataset, data.class_names, fingerprints, statistics)
    with h5py.File(layout, "w") as file:
        # UTF-8 of fixed length: variable-length strings live in HDF5's global heap, which can hang on a damaged byte.
        file.attrs["format"] = np.bytes_(FORMAT.encode())
        file.attrs["dataset"] = np.bytes_(data.dataset.encode())
        names = np.array([name.encode() for name in data.class_names])
        if names.nbytes < MAX_ATTRIBUTE_BYTES:
            file.attrs["class_names"] = names
        else:
            file.create_dataset("class_names", data=names, track_times=False)
        file.attrs["source"] = np.bytes_(data.source.encode())
        file.attrs["fingerprint"] = np.bytes_(whole.encode())
        if statistics is not None:
            if data.train_images.shape is not None:
                file.attrs["image_shape"] = np.array(data.train_images.shape, dtype="<i8")
            file.attrs["mean"], file.attrs["std"] = np.array(statistics.mean), np.array(statistics.std)
        for name in sorted(splits):
            images, labels = splits[name]
            group = file.create_group(name)
            group.attrs["fingerprint"] = np.bytes_(fingerprints[name].encode())
            # No times, so that the bytes depend on the data alone.
            if not isinstance(images, ImageFiles):
                group.create_dataset("images", data=images, dtype="u1", track_times=False)
            elif images.keeps_pixels and images.shape is not None:
                places[name] = _reserve(group, "images", (len(images), *images.shape))
            else:
                offsets = np.concatenate([[0], np.cumsum(images.sizes)])
                group.create_dataset("offsets", data=offsets, dtype="<i8", track_times=False)
                group.create_dataset("names", data=images.names, track_times=False)
                if images.upright:
                    group.create_dataset("orientations", data=orientations[name], dtype="u1", track_times=False)
                places[name] = _reserve(group, "content", (int(offsets[-1]),))
            group.create_dataset("labels", data=labels, dtype="<i8", track_times=False)
    return layout, places


def _reserve(group: h5py.Group, name: str, shape: tuple[int, ...]) -> int:
    """Create an unwritten dataset of bytes and return its offset in the file."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    dataset = group.create_dataset(name, shape, "u1", track_times=False, fill_time="never", dcpl=early)
    return int(dataset.id.get_offset())
