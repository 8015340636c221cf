"""From a teacher and a plan to a store's layout, attributes and answers."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.samples import Samples
from prepkd.runtime.files import fingerprint
from prepkd.store.attributes import Attributes
from prepkd.store.encodings import ENCODINGS, Encoding, make_encoding
from prepkd.store.encodings.measure import measure
from prepkd.store.layout import Layout, chunk_length
from prepkd.teacher.forward_pass import raw_logits, ready
from prepkd.teacher.settings import Cache
from prepkd.views import ViewPlan

TRIAL_BATCHES = 4
PIXEL_SAMPLES = 64


@dataclass(frozen=True)
class Trial:
    """The teacher's first batches: raw logits (n, K) of view 0, and the seconds that one batch takes."""

    raw: Tensor
    labels: Tensor
    seconds: float

    def estimate(self, layout: Layout, pending: Sequence[tuple[int, int]], batch_size: int) -> float:
        """Seconds that the pending chunks will take."""
        return self.seconds * sum(-(-layout.length(chunk) // batch_size) for _, chunk in pending)


def make_trial(teacher: nn.Module, dataset: Dataset, settings: Cache) -> Trial:
    """Ask the teacher for its first batches, after one that warms up."""
    size = settings.batch_size
    ask = partial(_raw, ready(teacher), dataset, settings, 0)
    ask(slice(0, size))
    part = slice(0, min(TRIAL_BATCHES * size, dataset.plan.samples))
    started = time.perf_counter()
    raw = ask(part)
    seconds = time.perf_counter() - started
    return Trial(raw, dataset.labels(0, part), seconds / -(-part.stop // size))


def encoding_of(settings: Cache, classes: int) -> Encoding:
    """Build the encoding that `settings.encoding` names, with its own section of the settings if it has one."""
    own = getattr(settings, settings.encoding).model_dump() if ENCODINGS[settings.encoding].settings else {}
    return make_encoding({"name": settings.encoding} | own, classes)


def plan_store(
    settings: Cache, dataset: Dataset, inputs: dict[str, Any], card: dict[str, Any], trial: Trial
) -> tuple[Layout, Attributes, str]:
    """The layout, the attributes and the fingerprint of the store that these settings ask for."""
    plan, encoding = dataset.plan, encoding_of(settings, dataset.classes)
    layout = Layout(plan, encoding, chunk_length(plan.samples, settings.chunk, settings.batch_size))
    sections = {
        "dataset": {
            "name": inputs["dataset"],
            "fingerprint": inputs["dataset_fingerprint"],
            "split_fingerprint": inputs["split_fingerprint"],
            "classes": dataset.classes,
        },
        "split": "train",
        "teacher": describe_teacher(card),
        "views": plan.describe(),
        "pixels": describe_pixels(plan, dataset.samples),
        "encoding": encoding.describe(),
        "precision": {
            "arithmetic": settings.precision,
            "batch_size": settings.batch_size,
            "device": inputs["device"],
        },
    }
    other_bytes = layout.bytes_per_row - sum(field.bytes_per_row for field in encoding.fields.values())
    # Without a fingerprint: its last digits may differ between machines.
    measured = measure(encoding, trial.raw, trial.labels, other_bytes=other_bytes)
    attributes = Attributes.made_from(sections, measured=measured)
    return layout, attributes, store_fingerprint(attributes, layout)


def store_fingerprint(attributes: Attributes, layout: Layout) -> str:
    """Identify a store and its files: the scratch folder of the work on it has this name."""
    return fingerprint([attributes.fingerprints, attributes.format, layout.chunk])


def describe_teacher(card: dict[str, Any]) -> dict[str, Any]:
    """What a store says of its teacher, from the teacher's card."""
    return {key: card[key] for key in ("name", "model", "weights_fingerprint", "preprocessing")}


def describe_pixels(plan: ViewPlan, samples: Samples) -> dict[str, Any]:
    """A hash of the pixels of a few samples in the first and the last view: whoever renders otherwise is found out."""
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
    teacher: nn.Module, dataset: Dataset, encoding: Encoding, settings: Cache, view: int, part: slice
) -> dict[str, Tensor]:
    """The teacher's encoded answers for some samples under a view: the arrays of one chunk."""
    return encoding.encode(_raw(ready(teacher), dataset, settings, view, part), dataset.labels(view, part))


def _raw(teacher: nn.Module, dataset: Dataset, settings: Cache, view: int, part: slice) -> Tensor:
    plan, samples = dataset.plan, dataset.samples
    asked = samples.under(plan, view, part)
    return raw_logits(teacher, plan, samples, *asked, batch_size=settings.batch_size, precision=settings.precision)
