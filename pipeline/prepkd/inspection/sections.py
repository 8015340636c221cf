"""The sections of an inspection, each a JSON object: figures of a store's logits, and a student's temperatures."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prepkd.data.prepared.file import DataInfo, Split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError, refuse_differences
from prepkd.inspection.figures import adjustment, class_errors, count_views, softness, view_errors
from prepkd.inspection.temperature import spread, temperatures
from prepkd.methods.dynamic_temperature import DTD
from prepkd.models import load_checkpoint
from prepkd.store import LogitStore
from prepkd.training.student_settings import Distill

MOST_VIEWS = 8


def choose(views: str | None, store: LogitStore) -> list[int]:
    """Views `A:B` as A to B - 1; None is at most 8 of those that are there, evenly spread. Raises InputError."""
    if views is None:
        last, count = len(store.present) - 1, min(MOST_VIEWS, len(store.present))
        return [store.present[round(i * last / max(1, count - 1))] for i in range(count)]
    parts = re.fullmatch(r"(\d+):(\d+)", views)
    if not parts or not int(parts[1]) < int(parts[2]) <= store.views:
        raise InputError(f"--views is {views!r}; expected A:B with 0 <= A < B <= {store.views}, e.g. 0:{store.views}")
    return list(range(int(parts[1]), int(parts[2])))


def of_logits(
    store: LogitStore, views: list[int], read: tuple[Split, DataInfo] | None, tau: float, missing: str
) -> dict[str, Any]:
    """Errors, confidence and entropy at tau 1 and `tau`, and KA's share, in some views of a store.

    Without the data, `read`, there are no labels: `left_out` then says what is missing, and that the reason is `missing`.
    Raises InputError for a damaged chunk.
    """
    left_out: list[str] = []
    report: dict[str, Any] = {
        "views_read": views,
        "left_out": left_out,
        "teacher_error": view_errors(store.summary),
    }
    if not views:
        left_out.append("everything about its logits: no view was fetched; `prepkd fetch-views` brings them")
        return report
    if len(views) < len(store.present):
        left_out.append(f"{len(store.present) - len(views)} of the views; `--views 0:{store.views}` reads all")
    taus = sorted({1.0, tau})
    counts = count_views(store, views, read and labels_of(store, read[0]), taus)
    report |= softness(counts, store.classes, taus)
    if read is None:
        left_out.append(f"errors per class and KA's share, which need labels: {missing}")
    else:
        report["class_error"] = class_errors(counts, read[1].class_names)
        report["ka"] = adjustment(counts, len(views))
    return report


def labels_of(store: LogitStore, split: Split) -> Callable[[int], Tensor]:
    """What a view's labels are: int64 (N,), or the classes' shares (N, K) where the store's views mix samples."""
    samples = Samples.of(split, torch.device("cpu"), store.plan.recipe)

    def labels(view: int) -> Tensor:
        return samples.targets(store.plan, *samples.under(store.plan, view, slice(None)), store.classes)

    return labels


def of_student(
    store: LogitStore, views: list[int], student: Path, split: Split, settings: Distill, device: torch.device
) -> dict[str, Any]:
    """The temperatures that `distill.dtd` would give a student in some views; raises InputError where they don't fit."""
    model, card = load_checkpoint(student, device=device, hint="run `prepkd distill`")
    samples = Samples.of(split, device, store.plan.recipe)
    refuse_differences(
        {
            "num_classes": (card["num_classes"], store.classes),
            "in_channels": (card["in_channels"], samples.channels),
        },
        student,
        "name a student of this data set",
    )
    rows = temperatures(store, views, model, samples, settings)
    return {
        "student": str(student),
        "batch_size": settings.batch_size,
        "settings": settings.section(DTD).model_dump(mode="json"),
    } | spread(rows, settings.section(DTD))
