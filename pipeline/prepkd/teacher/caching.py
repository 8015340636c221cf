"""Write a teacher's logits for every view of every training sample to a store."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.models.agreement import SKILL
from prepkd.models.logit_checks import check_logits
from prepkd.runtime.clock import elapsed
from prepkd.runtime.torch_state import finish_queued
from prepkd.store.attributes import PIXEL_SAMPLES, Attributes
from prepkd.store.destination import Destination
from prepkd.store.encodings import ENCODINGS, Encoding, LogitEncoding, encode_in_blocks, make_encoding, words_of
from prepkd.store.encodings.measure import measure_encoding
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.workers import ChunkIndex
from prepkd.store.write_store import StorePlan, WriteResult, batch_count, write_store
from prepkd.teacher.forward_pass import SampleViews, raw_logits, to_eval
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan

FIRST_BATCHES = 4


@dataclass(frozen=True)
class FirstBatches:
    """The teacher's first batches: raw logits (n, K) of view 0, their labels, and the seconds that one batch takes."""

    raw: Tensor
    labels: Tensor
    seconds: float

    def estimate(self, layout: Layout, pending: Sequence[ChunkIndex], batch_size: int) -> float:
        """Seconds that the pending chunks will take."""
        return self.seconds * batch_count(layout, pending, batch_size)


def cache_logits(teacher: LoadedTeacher, dataset: Dataset, settings: Cache, destination: Destination) -> WriteResult:
    """Write the store of a teacher's logits for every view of the dataset's plan.

    Raises InputError as `write_store`, and for a teacher that answers with probabilities.
    """
    first = first_batches(teacher.model, dataset, settings)
    doubt = check_logits(first.raw, f"teacher {teacher.name!r}")
    layout, attributes = plan_store(settings, dataset, teacher.describe(), first)
    answers = partial(teacher_answers, teacher.model, dataset, logit_encoding(settings, dataset.classes), settings)
    estimate = partial(first.estimate, layout, batch_size=settings.batch_size)
    return write_store(StorePlan(layout, attributes, answers, dataset.labels, estimate, doubt), destination)


def hardly_better_than_chance(written: WriteResult, classes: int) -> bool:
    """Whether the teacher of a finished store is hardly better than chance."""
    top1 = 1 - float(written.summary["teacher_error"])
    return top1 < 1 / classes + SKILL * (1 - 1 / classes)


def first_batches(teacher: nn.Module, dataset: Dataset, settings: Cache) -> FirstBatches:
    """Compute and time the teacher's first batches, after one to warm up."""
    size = settings.batch_size
    ask = partial(_raw, to_eval(teacher), dataset, settings, 0)
    ask(slice(0, size))
    part = slice(0, min(FIRST_BATCHES * size, dataset.plan.samples))
    finish_queued(dataset.samples.device)
    started = time.perf_counter()
    raw = ask(part)
    finish_queued(dataset.samples.device)
    seconds = elapsed(started)
    return FirstBatches(raw, dataset.labels(0, part), seconds / -(-part.stop // size))


def logit_encoding(settings: Cache, classes: int) -> LogitEncoding:
    """Build the encoding that `settings.encoding` names, with its own section of the settings if it has one."""
    own = getattr(settings, settings.encoding).model_dump() if ENCODINGS[settings.encoding].settings else {}
    return make_encoding({"name": settings.encoding} | own, classes)


def logit_layout(settings: Cache, plan: ViewPlan, classes: int) -> Layout:
    """The layout of a store of logits; raises InputError as `Layout` and the encoding do."""
    chunk = chunk_length(plan.samples, settings.chunk, settings.batch_size)
    return Layout(plan, logit_encoding(settings, classes), chunk)


def plan_store(
    settings: Cache, dataset: Dataset, teacher: Mapping[str, Any], first: FirstBatches
) -> tuple[Layout, Attributes]:
    """The layout and the attributes of the store of a teacher's logits; `teacher` is the attributes' section."""
    layout, encoding = logit_layout(settings, dataset.plan, dataset.classes), logit_encoding(settings, dataset.classes)
    other_bytes = layout.bytes_per_row - sum(field.bytes_per_row for field in encoding.fields.values())
    # Measured values have no fingerprint, since their last digits may differ between machines.
    words = words_of(encoding, dataset.plan, 0, slice(0, len(first.raw)))
    measured = measure_encoding(encoding, first.raw, first.labels, words, other_bytes=other_bytes)
    return layout, Attributes.made_from(store_origin(settings, dataset, teacher, encoding), measured=measured)


def store_origin(settings: Cache, dataset: Dataset, teacher: Mapping[str, Any], encoding: Encoding) -> dict[str, Any]:
    """The sections of a store's attributes on the origin and the encoding of its answers."""
    inputs = dataset.origin
    return {
        "dataset": {
            "name": inputs["dataset"],
            "fingerprint": inputs["dataset_fingerprint"],
            "split_fingerprint": inputs["split_fingerprint"],
            "classes": dataset.classes,
        },
        "split": "train",
        "teacher": dict(teacher),
        "views": dataset.plan.describe(),
        "pixels": describe_pixels(dataset.plan, dataset.samples),
        "encoding": encoding.describe(),
        "precision": {
            "arithmetic": settings.precision,
            "batch_size": settings.batch_size,
            "device": inputs["device"],
        },
    }


def describe_pixels(plan: ViewPlan, samples: Samples) -> dict[str, Any]:
    """Hash the pixels of a few samples in the first and the last view, so that readers detect different rendering."""
    count = min(PIXEL_SAMPLES, plan.samples)
    views = sorted({0, plan.views - 1})
    return {"views": views, "samples": count, "sha256": pixel_hash(plan, samples, views, count)}


def pixel_hash(plan: ViewPlan, samples: Samples, views: Sequence[int], count: int) -> str:
    """SHA-256 of the first `count` samples as rendered under each view, uint8 (B, C, H, W), in the order of views."""
    digest = hashlib.sha256()
    for view in views:
        pixels = samples.pixels(plan, *samples.view_rows(plan, view, slice(0, count)))
        digest.update((pixels * 255).round().byte().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def teacher_answers(
    teacher: nn.Module, dataset: Dataset, encoding: LogitEncoding, settings: Cache, view: int, part: slice
) -> dict[str, Tensor]:
    """The teacher's encoded answers for some samples under a view: the arrays of one chunk."""
    raw = _raw(to_eval(teacher), dataset, settings, view, part)
    words = words_of(encoding, dataset.plan, view, part)
    return encode_in_blocks(encoding, raw, dataset.labels(view, part), words)


def _raw(teacher: nn.Module, dataset: Dataset, settings: Cache, view: int, part: slice) -> Tensor:
    pictures = SampleViews.of(dataset, view, part)
    return raw_logits(teacher, pictures, batch_size=settings.batch_size, precision=settings.precision)
