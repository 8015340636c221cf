"""Write a teacher's logits for every view of every training sample to a store."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.models.logit_checks import check_logits
from prepkd.runtime.clock import elapsed
from prepkd.runtime.prefetch import overlap
from prepkd.store.attributes import PIXEL_SAMPLES, Attributes
from prepkd.store.encodings import ENCODINGS, Encoding, LogitEncoding, make_encoding, words_of
from prepkd.store.encodings.measure import measure
from prepkd.store.identity import manifest_sha256
from prepkd.store.layout import Layout, chunk_length
from prepkd.store.own import refuse_foreign_store
from prepkd.store.workers import Worker, joining
from prepkd.teacher.forward_pass import raw_logits, ready
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan

TRIAL_BATCHES = 4


@dataclass(frozen=True)
class Trial:
    """The teacher's first batches: raw logits (n, K) of view 0, their labels, and the seconds that one batch takes."""

    raw: Tensor
    labels: Tensor
    seconds: float

    def estimate(self, layout: Layout, pending: Sequence[tuple[int, int]], batch_size: int) -> float:
        """Seconds that the pending chunks will take."""
        return self.seconds * sum(-(-layout.length(chunk) // batch_size) for _, chunk in pending)


@dataclass(frozen=True)
class Work:
    """The work that remains when caching starts: the store's layout and attributes, pending chunks, estimated seconds.

    `doubt` is a warning if the teacher's answers may not be logits.
    """

    layout: Layout
    attributes: Attributes
    pending: int
    seconds: float
    doubt: str | None = None

    @property
    def chunks(self) -> int:
        """Chunks of the whole store."""
        return self.layout.plan.views * self.layout.chunks

    def describe(self) -> str:
        """One line: the store's size, the encoding's error, the time left."""
        plan, measured = self.layout.plan, self.attributes.measured
        assert measured is not None  # by `plan_store`
        return (
            f"{plan.views} views x {plan.samples:,} samples x {self.attributes.dataset.classes} classes: "
            f"{plan.views * plan.samples * measured.bytes_per_row / 1e6:,.1f} MB, "
            f"{measured.bytes_per_row:g} bytes per (view, sample), {self.attributes.encoding.name}, "
            f"KL at tau 4 {measured.kl_mean['4']:.1e}; about {self.seconds:,.0f} s to go"
        )


@dataclass(frozen=True)
class Written:
    """A finished store: its summary, its manifest's SHA-256, the number of chunks that this process wrote (None if the store
    was finished before), and the seconds.
    """

    summary: dict[str, Any]
    sha256: str
    chunks: int | None = None
    seconds: float = 0.0

    def describe(self) -> str:
        """One line: the share of the views that the teacher has wrong, which KA corrects."""
        return f"the teacher is wrong on {self.summary['teacher_error']:.2%} of the training views: KA's share"


def cache_logits(
    teacher: nn.Module,
    card: Mapping[str, Any],
    dataset: Dataset,
    inputs: Mapping[str, Any],
    settings: Cache,
    url: str,
    scratch_root: Path,
    *,
    replace: bool = False,
    on_wait: Callable[[str], None],
    on_start: Callable[[Work], None] = lambda work: None,
    on_chunk: Callable[[], None] = lambda: None,
    on_written: Callable[[], None] = lambda: None,
) -> Written:
    """Write the store of a teacher's logits, resume it, or join the processes that write it; a finished one stays as it is.

    `card` describes the teacher, `inputs` the prepared data and the device. `on_wait` gets one line when another process is
    waited for, `on_start` the remaining work before the first chunk, and `on_chunk` is called after each chunk of any process,
    `on_written` after each of this one.
    Raises InputError if anything but a store of prepkd's stands at `url`, or, without `replace`, a store of other settings, and
    for a teacher that answers with probabilities.
    """
    refuse_foreign_store(url)
    trial = make_trial(teacher, dataset, settings)
    doubt = check_logits(trial.raw, f"teacher {card['name']!r}")
    layout, attributes = plan_store(settings, dataset, inputs, card, trial)
    answers = partial(teacher_answers, teacher, dataset, encoding_of(settings, dataset.classes), settings)
    options: dict[str, Any] = {"on_wait": on_wait, "on_chunk": on_chunk, "replace": replace}
    with joining(url, layout, attributes, scratch_root, **options) as worker:
        if not isinstance(worker, Worker):
            return Written(worker, manifest_sha256(url))
        pending = worker.pending
        on_start(Work(layout, attributes, len(pending), trial.estimate(layout, pending, settings.batch_size), doubt))
        started = time.perf_counter()
        for _ in write_chunks(worker, answers):
            on_chunk()
            on_written()
        seconds = elapsed(started)
        summary = worker.finish(dataset.labels)
    return Written(summary, manifest_sha256(url), worker.written, seconds)


def write_chunks(worker: Worker, answers: Callable[[int, slice], Mapping[str, Tensor]]) -> Iterator[None]:
    """Write the chunks that a worker claims, one per step; a chunk is written while the teacher answers for the next one."""
    layout = worker.writer.layout
    made = ((view, chunk, answers(view, layout.slice(chunk))) for view, chunk in worker.claimed())
    return overlap(lambda part: worker.write(*part), made)


def make_trial(teacher: nn.Module, dataset: Dataset, settings: Cache) -> Trial:
    """Compute and time the teacher's first batches, after one to warm up."""
    size = settings.batch_size
    ask = partial(_raw, ready(teacher), dataset, settings, 0)
    ask(slice(0, size))
    part = slice(0, min(TRIAL_BATCHES * size, dataset.plan.samples))
    started = time.perf_counter()
    raw = ask(part)
    seconds = elapsed(started)
    return Trial(raw, dataset.labels(0, part), seconds / -(-part.stop // size))


def encoding_of(settings: Cache, classes: int) -> LogitEncoding:
    """Build the encoding that `settings.encoding` names, with its own section of the settings if it has one."""
    own = getattr(settings, settings.encoding).model_dump() if ENCODINGS[settings.encoding].settings else {}
    return make_encoding({"name": settings.encoding} | own, classes)


def layout_of(settings: Cache, plan: ViewPlan, classes: int) -> Layout:
    """The layout of a store of logits; raises InputError as `Layout` and the encoding do."""
    chunk = chunk_length(plan.samples, settings.chunk, settings.batch_size)
    return Layout(plan, encoding_of(settings, classes), chunk)


def plan_store(
    settings: Cache, dataset: Dataset, inputs: Mapping[str, Any], card: Mapping[str, Any], trial: Trial
) -> tuple[Layout, Attributes]:
    """The layout and the attributes of the store that these settings describe."""
    layout, encoding = layout_of(settings, dataset.plan, dataset.classes), encoding_of(settings, dataset.classes)
    other_bytes = layout.bytes_per_row - sum(field.bytes_per_row for field in encoding.fields.values())
    # Without a fingerprint: its last digits may differ between machines.
    words = words_of(encoding, dataset.plan, 0, slice(0, len(trial.raw)))
    measured = measure(encoding, trial.raw, trial.labels, words, other_bytes=other_bytes)
    return layout, Attributes.made_from(origin(settings, dataset, inputs, card, encoding), measured=measured)


def origin(
    settings: Cache, dataset: Dataset, inputs: Mapping[str, Any], card: Mapping[str, Any], encoding: Encoding
) -> dict[str, Any]:
    """The sections of a store's attributes that say where its answers come from and how they are kept."""
    return {
        "dataset": {
            "name": inputs["dataset"],
            "fingerprint": inputs["dataset_fingerprint"],
            "split_fingerprint": inputs["split_fingerprint"],
            "classes": dataset.classes,
        },
        "split": "train",
        "teacher": describe_teacher(card),
        "views": dataset.plan.describe(),
        "pixels": describe_pixels(dataset.plan, dataset.samples),
        "encoding": encoding.describe(),
        "precision": {
            "arithmetic": settings.precision,
            "batch_size": settings.batch_size,
            "device": inputs["device"],
        },
    }


def describe_teacher(card: Mapping[str, Any]) -> dict[str, Any]:
    """The section `teacher` of a store's attributes, from the teacher's card."""
    return {key: card[key] for key in ("name", "model", "weights_fingerprint", "preprocessing")}


def describe_pixels(plan: ViewPlan, samples: Samples) -> dict[str, Any]:
    """Hash the pixels of a few samples in the first and the last view, so that readers notice if they render otherwise."""
    count = min(PIXEL_SAMPLES, plan.samples)
    views = sorted({0, plan.views - 1})
    return {"views": views, "samples": count, "sha256": pixel_hash(plan, samples, views, count)}


def pixel_hash(plan: ViewPlan, samples: Samples, views: Sequence[int], count: int) -> str:
    """SHA-256 of the first `count` samples as rendered under each view, uint8 (B, C, H, W), in the order of views."""
    digest = hashlib.sha256()
    for view in views:
        pixels = samples.pixels(plan, *samples.under(plan, view, slice(0, count)))
        digest.update((pixels * 255).round().byte().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def teacher_answers(
    teacher: nn.Module, dataset: Dataset, encoding: LogitEncoding, settings: Cache, view: int, part: slice
) -> dict[str, Tensor]:
    """The teacher's encoded answers for some samples under a view: the arrays of one chunk."""
    raw = _raw(ready(teacher), dataset, settings, view, part)
    return encoding.encode(raw, dataset.labels(view, part), words_of(encoding, dataset.plan, view, part))


def _raw(teacher: nn.Module, dataset: Dataset, settings: Cache, view: int, part: slice) -> Tensor:
    plan, samples = dataset.plan, dataset.samples
    asked = samples.under(plan, view, part)
    return raw_logits(teacher, plan, samples, *asked, batch_size=settings.batch_size, precision=settings.precision)
