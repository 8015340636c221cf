"""Write a store of logits or features: new, resumed, or shared between processes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from prepkd.runtime.clock import elapsed
from prepkd.runtime.prefetch import overlap
from prepkd.store.attributes import Attributes
from prepkd.store.destination import Destination, RemainingWork
from prepkd.store.identity import manifest_sha256
from prepkd.store.layout import Layout
from prepkd.store.summary import Labels
from prepkd.store.workers import ChunkIndex, Worker, join_workers

ComputeChunk = Callable[[int, slice], Mapping[str, Tensor]]  # (view, samples) -> the arrays of one chunk


@dataclass(frozen=True)
class StorePlan:
    """A store to write: its layout, its attributes, and the function that computes a chunk's arrays.

    Logits need `labels`. `estimate` returns the seconds that the pending (view, chunk) pairs take; `on_start` gets `warning`.
    """

    layout: Layout
    attributes: Attributes
    answers: ComputeChunk
    labels: Labels | None = None
    estimate: Callable[[Sequence[ChunkIndex]], float] = lambda pending: 0.0
    warning: str | None = None


@dataclass(frozen=True)
class WriteResult:
    """A finished store: its summary and its manifest's SHA-256.

    `chunks` is the number that this process wrote, None if the store was finished before; `seconds` the time that it took;
    `bytes` the size of the whole store before compression.
    """

    summary: dict[str, Any]
    sha256: str
    chunks: int | None = None
    seconds: float = 0.0
    bytes: int = 0

    def report(self, url: str) -> list[str]:
        """Lines on the chunks that were written, the teacher's error if they hold logits, and the manifest's hash."""
        lines = [
            "already finished" if self.chunks is None else f"{self.chunks} chunks written in {self.seconds:,.1f} s"
        ]
        if (error := self.summary.get("teacher_error")) is not None:
            lines.append(f"the teacher is wrong on {error:.2%} of the training views: KA's share")
        if self.chunks is None:
            lines = ["; ".join(lines)]
        return [f"{url}: {line}" for line in [*lines, f"sha256 of its manifest {self.sha256}"]]


def write_store(plan: StorePlan, destination: Destination) -> WriteResult:
    """Write a store, resume it, or join the processes that write it; leave a finished one unchanged.

    Raises InputError if the destination holds anything but a store that prepkd wrote, or, without `replace`, a store of other
    settings.
    """
    with join_workers(destination, plan.layout, plan.attributes) as worker:
        if not isinstance(worker, Worker):
            return WriteResult(worker, manifest_sha256(destination.url), bytes=plan.layout.bytes)
        pending = worker.pending
        seconds = plan.estimate(pending)
        destination.on_start(
            RemainingWork(destination.url, plan.layout, plan.attributes, len(pending), seconds, plan.warning)
        )
        started = time.perf_counter()
        for _ in write_chunks(worker, plan.answers):
            destination.on_chunk()
            destination.on_written()
        seconds = elapsed(started)
        summary = worker.finish(plan.labels)
    return WriteResult(summary, manifest_sha256(destination.url), worker.written, seconds, plan.layout.bytes)


def write_chunks(worker: Worker, answers: ComputeChunk) -> Iterator[None]:
    """Write the chunks that a worker claims, one per step; a chunk is written while the next one's answers are computed."""
    layout = worker.writer.layout
    made = ((view, chunk, answers(view, layout.slice(chunk))) for view, chunk in worker.claimed())
    return overlap(lambda part: worker.write(*part), made)


def batch_count(layout: Layout, pending: Sequence[ChunkIndex], batch_size: int) -> int:
    """The number of the teacher's batches in the pending chunks."""
    return sum(-(-layout.length(chunk) // batch_size) for _, chunk in pending)
