"""Write the tensors of an entry of `cache.features`, for every view of every training sample, to a store."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from prepkd.data.samples.dataset import Dataset
from prepkd.display.text import counted
from prepkd.methods.entries import Entry
from prepkd.models.features import WithFeatures
from prepkd.runtime.clock import elapsed
from prepkd.store.attributes import Attributes
from prepkd.store.destination import Destination
from prepkd.store.encodings import Tensors
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.ownership import refuse_replacing
from prepkd.store.workers import ChunkIndex
from prepkd.store.write_store import StorePlan, WriteResult, batch_count, write_store
from prepkd.teacher.caching import FIRST_BATCHES, store_origin
from prepkd.teacher.forward_pass import SampleViews, forward, to_eval
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan

MAX_CHUNK_BYTES = 2**28  # bytes, of the largest tensor: raw maps are large


def feature_encoding(entry: Entry) -> Tensors:
    """The encoding of an entry's tensors."""
    return Tensors.of(entry.shapes, entry.dtype)


def store_cost(entry: Entry, views: int, samples: int) -> str:
    """One line: the tensors in the store of an entry for this number of views and samples, and its bytes."""
    encoding = feature_encoding(entry)
    tensors = ", ".join(f"{one.name} {'x'.join(map(str, one.shape)) or '1'}" for one in encoding.tensors)
    size = views * samples * encoding.bytes_per_row
    return (
        f"{entry.name}: {counted(views, 'view')} x {samples:,} samples x {encoding.bytes_per_row:,} bytes = "
        f"{size / 1e6:,.1f} MB, {entry.dtype} ({tensors})"
    )


def cache_features(
    teacher: LoadedTeacher, dataset: Dataset, settings: Cache, entry: Entry, destination: Destination
) -> WriteResult:
    """Write the store of one entry for every view of the dataset's plan.

    Raises InputError as `write_store`, and for features that are not finite.
    """
    layout, attributes = plan_features(settings, dataset, teacher.describe(), entry)
    model = WithFeatures(to_eval(teacher.model), entry.features)
    answers = partial(feature_answers, model, dataset, entry, settings)

    def estimate(pending: Sequence[ChunkIndex]) -> float:
        return batch_count(layout, pending, settings.batch_size) * _seconds_per_batch(answers, settings, layout)

    return write_store(StorePlan(layout, attributes, answers, estimate=estimate), destination)


def refuse_other_features(url: str, teacher: LoadedTeacher, dataset: Dataset, settings: Cache, entry: Entry) -> None:
    """Raise InputError if the entry's place holds another store; to be called before anything is computed."""
    refuse_replacing(url, plan_features(settings, dataset, teacher.describe(), entry)[1])


def plan_features(
    settings: Cache, dataset: Dataset, teacher: Mapping[str, Any], entry: Entry
) -> tuple[Layout, Attributes]:
    """The layout and the attributes of the store of an entry; `teacher` is the attributes' section."""
    sections = store_origin(settings, dataset, teacher, feature_encoding(entry))
    return feature_layout(settings, dataset.plan, entry), Attributes.made_from(sections | {"asked": entry.describe()})


def feature_layout(settings: Cache, plan: ViewPlan, entry: Entry) -> Layout:
    """The layout of the store of an entry, with smaller chunks where its tensors are large; raises InputError as `Layout`."""
    encoding = feature_encoding(entry)
    most = MAX_CHUNK_BYTES // max(one.bytes_per_row for one in encoding.tensors)
    return Layout(plan, encoding, chunk_length(plan.samples, min(settings.chunk, most), settings.batch_size))


def feature_answers(
    teacher: WithFeatures, dataset: Dataset, entry: Entry, settings: Cache, view: int, part: slice
) -> dict[str, Tensor]:
    """The entry's encoded tensors for some samples under a view: the arrays of one chunk."""
    pictures, size = SampleViews.of(dataset, view, part), settings.batch_size
    found = forward(
        teacher, pictures, batch_size=size, precision=settings.precision, teacher_tensors=entry.teacher_tensors
    )
    return feature_encoding(entry).encode(found)


def _seconds_per_batch(answers: Callable[[int, slice], dict[str, Tensor]], settings: Cache, layout: Layout) -> float:
    """Seconds per batch, measured on the first batches after one to warm up."""
    answers(0, slice(0, min(settings.batch_size, layout.plan.samples)))
    part = slice(0, min(FIRST_BATCHES * settings.batch_size, layout.plan.samples))
    started = time.perf_counter()
    answers(0, part)
    return elapsed(started) / -(-part.stop // settings.batch_size)
