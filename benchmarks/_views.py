"""Writing, reading and lookup of whole views: the store against raw bytes and other formats."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from prepkd.runtime.streams import bounded_integers, raw_words
from prepkd.store import LogitStore
from prepkd.store.attributes import Attributes
from prepkd.store.checked import MIN_FILE_AGE
from prepkd.store.layout import Layout
from prepkd.store.place import open_place
from prepkd.store.writer import StoreWriter
from prepkd.teacher.cached import CachedTeacher
from prepkd.teacher.caching import FirstBatches, plan_store
from prepkd.teacher.settings import Cache

from benchmarks._datasets import SEED, made_up
from benchmarks._formats import FORMATS, SLOW, Arrays, Format, raw_write
from benchmarks._measure import Case, against, interleaved

CLASSES = 100
ROWS = 128
WRITTEN = 8  # views written together, which share the cost of creating a store and its manifest


@dataclass(frozen=True)
class View:
    """A view of random logits, the `layout` and `attributes` of its store, and the samples' labels."""

    layout: Layout
    attributes: Attributes
    arrays: Arrays
    labels: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def write_store(self, path: Path) -> None:
        """Write a finished store with these logits in every view, as cache-logits does, but without the teacher."""
        writer = StoreWriter(open_place(path, write=True), self.layout, self.attributes, path)
        for view, chunk in writer.pending():
            part = self.layout.slice(chunk)
            writer.write(view, chunk, {name: self.arrays[name][part] for name in self.layout.encoding.fields})
        writer.finish(self.labels)


def made_up_view(samples: int, views: int) -> View:
    """Make random logits, normal with standard deviation 3, for a store of `views` views of CIFAR's recipe."""
    _, dataset, _ = made_up("convnet4", (1, 32, 32), CLASSES, views, samples)
    raw = torch.randn(samples, CLASSES, generator=torch.Generator().manual_seed(SEED)) * 3
    labels = dataset.samples.labels
    card = {"name": "none", "model": "none", "weights_fingerprint": "0" * 64, "preprocessing": {}}
    layout, attributes = plan_store(Cache(views=views), dataset, card, FirstBatches(raw[:256], labels[:256], 0.0))
    encoded = {name: tensor.numpy() for name, tensor in layout.encoding.encode(raw, labels).items()}
    return View(layout, attributes, {"params": dataset.plan.parameters(0), **encoded}, labels.numpy())


def measure(folder: Path, *, samples: int, views: int, rounds: int, file_rounds: int) -> dict[str, Any]:
    """Measure seconds per view and format, and speeds relative to the bare disk and to a warm memory map."""
    fewer, view = {SLOW: file_rounds}, made_up_view(samples, views)
    writing, reading = write_cases(folder, samples), read_cases(folder, view, rounds)
    # Sync first, so that no case's fsync waits for another case's writes.
    written = interleaved(writing, rounds, fewer=fewer, before=os.sync)
    read = interleaved(reading, rounds, fewer=fewer)
    found = interleaved(lookup_cases(folder, view), rounds)
    return {
        "logits": "synthetic: normal, standard deviation 3",
        "bytes_per_view": view.nbytes,
        "lookup_rows": ROWS,
        "read": against("numpy memmap", read),
        "views_written": WRITTEN,
        "write": against("raw files", per_view(written)),
        "lookup": against("numpy memmap", found),
    }


def write_cases(folder: Path, samples: int) -> dict[str, Case]:
    """Cases that write several views, or one, under new names each round; a store is created, read back and committed."""
    few, one = made_up_view(samples, WRITTEN), made_up_view(samples, 1)

    def written(name: str, write: Callable[[Path, Arrays], None], views: int = WRITTEN) -> Case:
        def case(turn: int) -> None:
            for view in range(views):
                write(folder / f"{name}, round {turn}, view {view}", one.arrays)

        return case

    return {
        "raw files": written("raw", raw_write),
        "store": lambda turn: few.write_store(folder / f"store, round {turn}"),
        "store of one view": lambda turn: one.write_store(folder / f"small store, round {turn}"),
        **{name: written(name, form.write, 1 if name == SLOW else WRITTEN) for name, form in FORMATS.items()},
    }


def per_view(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Convert the seconds of the cases of `write_cases` to seconds per view."""
    alone = {SLOW, "store of one view"}
    return {name: [t / (1 if name in alone else WRITTEN) for t in times] for name, times in seconds.items()}


def read_cases(folder: Path, view: View, rounds: int) -> dict[str, Case]:
    """Write the files; return cases that read another whole view each round."""
    views = view.layout.plan.views
    view.write_store(folder / "store.zarr")
    time.sleep(MIN_FILE_AGE / 1e9)  # younger files are hashed at each reading
    store = LogitStore.open(folder / "store.zarr")
    # One newly opened store per round, none of which has read a view.
    opened = [LogitStore.open(folder / "store.zarr") for _ in range(rounds + 1)]
    for one in range(views):
        store.slab(one)
    for name, form in FORMATS.items():
        for one in range(1 if name == SLOW else views):
            form.write(folder / f"{name}, {one}", view.arrays)
    mapped = memory_map(folder / "views.raw", view)

    def read(name: str, form: Format) -> Case:
        return lambda turn: form.read(folder / f"{name}, {0 if name == SLOW else turn % views}")

    return {
        "numpy memmap": lambda turn: np.array(mapped[turn % views]),
        "store, first reading": lambda turn: opened[turn].slab(turn % views),
        "store, again": lambda turn: store.slab(turn % views),
        **{name: read(name, form) for name, form in FORMATS.items()},
    }


def memory_map(path: Path, view: View) -> NDArray[np.uint8]:
    """Return a warm memory map (views, bytes) of a file with the arrays' bytes, view by view."""
    path.write_bytes(b"".join(array.tobytes() for array in view.arrays.values()) * view.layout.plan.views)
    mapped = np.memmap(path, np.uint8, "r").reshape(view.layout.plan.views, view.nbytes)
    assert mapped.max() > 0  # reads every page
    return mapped


def lookup_cases(folder: Path, view: View) -> dict[str, Case]:
    """Cases that look up logits and maxima of 128 new random (view, sample) pairs per round, in the files of `read_cases`."""
    views, samples = view.layout.plan.views, view.layout.plan.samples
    store = LogitStore.open(folder / "store.zarr")
    teacher = CachedTeacher(store, torch.device("cpu"), resident=True, resident_gib=store.nbytes / 2**30)
    resident = teacher.rows[0].resident
    assert resident is not None
    shape = views, samples, CLASSES
    logits = np.memmap(folder / "logits.raw", np.float16, "w+", shape=shape)
    row_max = np.memmap(folder / "row_max.raw", np.float32, "w+", shape=shape[:2])
    logits[:], row_max[:] = view.arrays["logits"], view.arrays["row_max"]

    def pairs(turn: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        words = raw_words(SEED, 0, 2 * ROWS * turn, 2 * ROWS)
        return bounded_integers(words[:ROWS], views), bounded_integers(words[ROWS:], samples)

    def from_memory(turn: int) -> object:
        rows = tuple(torch.from_numpy(column) for column in pairs(turn))
        return store.encoding.decode({name: array[rows] for name, array in resident.items()})

    def other(name: str, form: Format) -> Case:
        def look(turn: int) -> object:
            chosen, rows = pairs(turn)
            kept = 1 if name == SLOW else views
            return form.lookup([folder / f"{name}, {one}" for one in range(kept)], chosen % kept, rows)

        return look

    return {
        "numpy memmap": lambda turn: (logits[pairs(turn)], row_max[pairs(turn)]),
        "resident teacher": from_memory,
        "LogitStore.lookup": lambda turn: store.lookup(*pairs(turn)),
        **{name: other(name, form) for name, form in FORMATS.items()},
    }
