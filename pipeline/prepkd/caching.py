"""From a teacher and a plan to a store's layout, attributes and answers."""

import time
from collections.abc import Sequence
from typing import Any

from prepkd.files import fingerprint
from prepkd.lesson import Lesson
from prepkd.models import Normalised
from prepkd.params import Cache
from prepkd.store.layout import FORMAT, Layout, chunk_length, with_fingerprints
from prepkd.store.writer import Answer
from prepkd.teaching import store_answer


def plan_store(
    settings: Cache, lesson: Lesson, inputs: dict[str, Any], teacher: Normalised, card: dict[str, Any]
) -> tuple[Layout, dict[str, Any], str]:
    """The layout, the attributes and the fingerprint of the store that these settings ask for."""
    plan = lesson.plan
    layout = Layout(plan, lesson.classes, chunk_length(plan.samples, settings.chunk, settings.batch_size))
    attributes = {
        "dataset": {
            "name": inputs["dataset"],
            "fingerprint": inputs["dataset_fingerprint"],
            "split_fingerprint": inputs["split_fingerprint"],
            "classes": lesson.classes,
        },
        "split": "train",
        "teacher": {key: card[key] for key in ("name", "model", "weights_fingerprint", "preprocessing")},
        "views": plan.describe(),
        "encoding": {"name": "f16", "bytes_per_row": layout.bytes_per_row},
        "precision": {
            "arithmetic": settings.precision,
            "batch_size": settings.batch_size,
            "device": inputs["device"],
        },
    }
    complete = with_fingerprints(attributes) | {"format": FORMAT}
    return layout, complete, fingerprint(complete | {"chunk": layout.chunk})


def teacher_answers(teacher: Normalised, lesson: Lesson, settings: Cache) -> Answer:
    """The teacher's answers as a store's writer asks for them."""
    return store_answer(
        teacher, lesson.plan, lesson.samples.images, batch_size=settings.batch_size, precision=settings.precision
    )


def estimate_seconds(answers: Answer, layout: Layout, pending: Sequence[tuple[int, int]], batch_size: int) -> float:
    """Seconds that the pending chunks will take, from the second of two timed teacher batches (the first warms up)."""
    part = slice(0, min(batch_size, layout.plan.samples))
    for _ in range(2):
        started = time.perf_counter()
        answers(0, part)
        seconds = time.perf_counter() - started
    samples = sum(layout.length(chunk) for _, chunk in pending)
    return seconds * samples / part.stop
