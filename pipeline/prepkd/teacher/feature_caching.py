"""Write what an entry of `cache.features` asks of a teacher, for every view of every training sample, to a store."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.methods.entries import Entry
from prepkd.models import Normalised
from prepkd.models.features import WithFeatures
from prepkd.runtime.clock import elapsed
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import Tensors
from prepkd.store.identity import manifest_sha256
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.own import refuse_replacing
from prepkd.store.workers import Worker, joining
from prepkd.teacher.caching import TRIAL_BATCHES, Written, origin, write_chunks
from prepkd.teacher.forward_pass import forward, ready
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan

LARGEST_CHUNK = 2**28  # bytes, of the largest tensor: raw maps are large


@dataclass(frozen=True)
class FeatureWork:
    """The work that remains when caching starts: the store's layout, pending chunks, estimated seconds."""

    layout: Layout
    pending: int
    seconds: float

    @property
    def chunks(self) -> int:
        """Chunks of the whole store."""
        return self.layout.plan.views * self.layout.chunks


def encoding_of(entry: Entry) -> Tensors:
    """The encoding of an entry's tensors."""
    return Tensors.of(entry.shapes, entry.dtype)


def cost(entry: Entry, dataset: Dataset) -> str:
    """One line: what a store of an entry would hold, and its bytes."""
    return store_cost(entry, dataset.plan.views, dataset.plan.samples)


def store_cost(entry: Entry, views: int, samples: int) -> str:
    """The same for so many views and samples."""
    encoding = encoding_of(entry)
    tensors = ", ".join(f"{one.name} {'x'.join(map(str, one.shape)) or '1'}" for one in encoding.tensors)
    size = views * samples * encoding.bytes_per_row
    return (
        f"{entry.name}: {views} views x {samples:,} samples x {encoding.bytes_per_row:,} bytes = "
        f"{size / 1e6:,.1f} MB, {entry.dtype} ({tensors})"
    )


def cache_features(
    teacher: Normalised,
    card: Mapping[str, Any],
    dataset: Dataset,
    inputs: Mapping[str, Any],
    settings: Cache,
    entry: Entry,
    url: str,
    scratch_root: Path,
    *,
    replace: bool = False,
    on_wait: Callable[[str], None],
    on_start: Callable[[FeatureWork], None] = lambda work: None,
    on_chunk: Callable[[], None] = lambda: None,
) -> Written:
    """Write the store of one entry, resume it, or join the processes that write it; a finished one stays as it is.

    Arguments as those of `caching.cache_logits`. Raises InputError if anything but a store of prepkd's stands at `url`, or,
    without `replace`, a store of other settings, and for features that are not finite.
    """
    layout, attributes = plan_features(settings, dataset, inputs, card, entry)
    answers = partial(feature_answers, WithFeatures(ready(teacher), entry.features), dataset, entry, settings)
    options: dict[str, Any] = {"on_wait": on_wait, "on_chunk": on_chunk, "replace": replace}
    with joining(url, layout, attributes, scratch_root, **options) as worker:
        if not isinstance(worker, Worker):
            return Written(worker, manifest_sha256(url))
        batches = sum(-(-layout.length(chunk) // settings.batch_size) for _, chunk in worker.pending)
        on_start(FeatureWork(layout, len(worker.pending), batches * _seconds_per_batch(answers, settings, layout)))
        started = time.perf_counter()
        for _ in write_chunks(worker, answers):
            on_chunk()
        seconds = elapsed(started)
        summary = worker.finish()
    return Written(summary, manifest_sha256(url), worker.written, seconds)


def refuse_other_features(
    url: str,
    settings: Cache,
    dataset: Dataset,
    inputs: Mapping[str, Any],
    card: Mapping[str, Any],
    entry: Entry,
) -> None:
    """Raise InputError if another store than that of the entry stands at its place: before anything is computed."""
    refuse_replacing(url, plan_features(settings, dataset, inputs, card, entry)[1])


def plan_features(
    settings: Cache, dataset: Dataset, inputs: Mapping[str, Any], card: Mapping[str, Any], entry: Entry
) -> tuple[Layout, Attributes]:
    """The layout and the attributes of the store of an entry."""
    sections = origin(settings, dataset, inputs, card, encoding_of(entry))
    return layout_of(settings, dataset.plan, entry), Attributes.made_from(sections | {"asked": entry.describe()})


def layout_of(settings: Cache, plan: ViewPlan, entry: Entry) -> Layout:
    """The layout of the store of an entry, with smaller chunks where its tensors are large; raises InputError as `Layout`."""
    encoding = encoding_of(entry)
    most = LARGEST_CHUNK // max(one.bytes_per_row for one in encoding.tensors)
    return Layout(plan, encoding, chunk_length(plan.samples, min(settings.chunk, most), settings.batch_size))


def feature_answers(
    teacher: WithFeatures, dataset: Dataset, entry: Entry, settings: Cache, view: int, part: slice
) -> dict[str, Tensor]:
    """The entry's encoded tensors for some samples under a view: the arrays of one chunk."""
    asked = dataset.samples.under(dataset.plan, view, part)
    found = forward(
        teacher,
        dataset.plan,
        dataset.samples,
        *asked,
        batch_size=settings.batch_size,
        precision=settings.precision,
        asks=entry.asks,
    )
    return encoding_of(entry).encode(found)


def _seconds_per_batch(answers: Callable[[int, slice], dict[str, Tensor]], settings: Cache, layout: Layout) -> float:
    """Seconds that a batch takes, of the first ones after one to warm up."""
    answers(0, slice(0, min(settings.batch_size, layout.plan.samples)))
    part = slice(0, min(TRIAL_BATCHES * settings.batch_size, layout.plan.samples))
    started = time.perf_counter()
    answers(0, part)
    return elapsed(started) / -(-part.stop // settings.batch_size)
