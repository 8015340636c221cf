"""Estimate a process's memory: run the code that makes and reads answers on a few rows, and count its allocations."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import zarr
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prepkd.models.features import Answers
from prepkd.store.encodings import LogitEncoding, Tensors, as_tensors, block_rows, numbers_per_row
from prepkd.store.layout import READING_THREADS, Layout
from prepkd.store.summary import Ranges, Summary, TeacherError

ROWS = 64  # of a trial; fewer if a row is large
MAX_ELEMENTS = 2**22  # elements of a tensor in a trial

# Several teachers' answers -> those of their combination.
Combine = Callable[[Sequence[Answers]], Answers]


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of all tensors that operations create within the context: `now` alive, and at `most`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.most: int = 0
        self.alive: dict[int, Any] = {}  # finalizers by storage

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count its new storages; views and in-place results share an existing one."""
        made = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in storages((args, kwargs))}
        for storage in storages(made):
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self.alive:
                self.alive[key] = weakref.finalize(storage, self._freed, key, size)
                self.now += size
                self.most = max(self.most, self.now)
        return made

    def _freed(self, key: int, size: int) -> None:
        del self.alive[key]
        self.now -= size


def allocated(work: Callable[[], Any]) -> int:
    """Return the peak bytes of tensors that `work` creates, its result included, its inputs excluded."""
    counted = Allocations()
    with counted:
        work()
    return counted.most


def storages(values: object) -> Iterable[torch.UntypedStorage]:
    """The storages of all tensors within nested values."""
    return (one.untyped_storage() for one in tree_leaves(values) if isinstance(one, Tensor))


def size_of(values: object) -> int:
    """Bytes of the different storages of all tensors within nested values."""
    return sum({one._cdata: one.nbytes() for one in storages(values)}.values())


class TrialAnswers:
    """Made-up answers for a layout: raw as from a teacher, encoded, and as read from disk."""

    def __init__(self, layout: Layout) -> None:
        encoding = layout.encoding
        self.rows = max(2, min(ROWS, MAX_ELEMENTS // numbers_per_row(encoding)))
        draw = torch.Generator().manual_seed(0)
        self.encode: Callable[[], Mapping[str, Tensor]]
        self.summary: Summary
        if isinstance(encoding, LogitEncoding):
            logits = torch.randn(self.rows, encoding.classes, generator=draw)
            labels = torch.arange(self.rows) % encoding.classes
            if layout.plan.mix:  # shares of two classes
                labels = torch.eye(encoding.classes)[labels] / 2 + torch.eye(encoding.classes)[labels - 1] / 2
            words = torch.arange(self.rows) << 30  # of an encoding that draws: below 2^40
            self.raw, self.encode = {"logits": logits}, lambda: encoding.encode(logits, labels, words)
            self.summary = TeacherError(encoding, lambda view, part: labels)
        else:
            assert isinstance(encoding, Tensors)
            raw = {one.name: torch.rand(self.rows, *one.shape, generator=draw) for one in encoding.tensors}
            self.raw, self.encode, self.summary = raw, lambda: encoding.encode(raw), Ranges(encoding)
        self.encoded = self.encode()
        self.stored = {
            name: array.numpy().astype(encoding.fields[name].dtype, copy=False) for name, array in self.encoded.items()
        }

    def of(self, rows: int, size: float) -> int:
        """Scale the `size` in bytes of the trial's rows to `rows` rows."""
        return round(rows * size / self.rows)


def caching_memory(layout: Layout) -> int:
    """Bytes that caching takes besides the teacher and the images.

    The allocator's heap is unknown; the measured figures in docs/benchmarks.md differ by it. A chunk is computed while the one
    before it is written. At the end, once that memory is free, `READING_THREADS` threads each read a chunk back.
    """
    tried, chunk = TrialAnswers(layout), layout.chunk
    raw, encoded = tried.of(chunk, size_of(tried.raw)), tried.of(chunk, size_of(tried.encoded))
    # Batches are joined, then encoded, logits in blocks.
    block = min(block_rows(layout.encoding), chunk)
    computed = raw + max(raw, tried.of(chunk, allocated(tried.encode)))
    if isinstance(layout.encoding, LogitEncoding) and block < chunk:
        computed = raw + max(raw, encoded + tried.of(block, allocated(tried.encode)))
    written = size_of(tried.encoded) / tried.rows + 2 * max(field.bytes_per_row for field in layout.fields.values())
    checked = tried.of(block, allocated(lambda: tried.summary.of_chunk(tried.stored, 0, slice(0, tried.rows))))
    if isinstance(layout.encoding, Tensors):
        checked += tried.of(chunk, size_of(layout.encoding.decode(as_tensors(tried.stored))))
    threads = min(READING_THREADS, layout.plan.views * layout.chunks)
    read_back = threads * (checked + 2 * chunk * layout.bytes_per_row)
    return max(computed + round(chunk * written), read_back)


def training_memory(
    kinds: Sequence[Sequence[Layout]], combine: Combine | None = None, *, resident: bool = False
) -> int:
    """Bytes of the teacher's answers in a training process: this epoch's, and the next epoch's while they are read.

    `kinds` holds, per kind of view that a step shows, the layouts of the stores; they are read one after another and their
    answers combined. With `resident`, the stores are in memory.
    """
    held = most = kept = 0
    for stores in kinds:
        answers: list[Answers] = []
        before = held
        for layout in stores:
            tried, samples = TrialAnswers(layout), layout.plan.samples
            tensors = as_tensors(tried.stored)
            answers.append(layout.encoding.decode(tensors))
            if resident:
                kept += layout.plan.weak.views * tried.of(samples, size_of(tensors))
            files = 0 if resident else in_flight(layout)
            reading = 0 if resident else samples * layout.bytes_per_row + files
            block = min(block_rows(layout.encoding), samples)
            decoded = size_of(answers[-1]) if block < samples else 0
            decoding = tried.of(samples, size_of(tensors) + decoded)
            decoding += tried.of(block, allocated(partial(layout.encoding.decode, tensors)))
            # The files of the previous view stay in memory until Python collects garbage.
            most = max(most, held + max(reading, decoding) + files)
            held += tried.of(samples, size_of(answers[-1]))
        if combine:
            most = max(most, held + tried.of(samples, allocated(partial(combine, answers))))
            held = before + tried.of(samples, size_of(combine(answers)))
    return kept + held + most


def in_flight(layout: Layout) -> int:
    """Bytes of a view's files that are read concurrently, over all arrays."""
    files = min(zarr.config.get("async.concurrency"), layout.chunks)
    return int(files * sum(layout.file_sizes(name)[1] for name in layout.fields))
