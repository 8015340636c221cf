"""The sections of an inspection, each a JSON object: figures of a store's logits, and a student's temperatures."""

import re
from pathlib import Path
from typing import Any

import torch

from prepkd.data import DataInfo, Split
from prepkd.errors import InputError, refuse_differences
from prepkd.models import load_checkpoint
from prepkd.params import Distill
from prepkd.report.store_report import adjustment, class_errors, count_views, softness, view_errors
from prepkd.report.store_temperature import spread, temperatures
from prepkd.store import LogitStore
from prepkd.train import Samples

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
    labels = None if read is None else torch.from_numpy(read[0].labels)
    counts = count_views(store, views, labels, taus)
    report |= softness(counts, store.classes, taus)
    if read is None:
        left_out.append(f"errors per class and KA's share, which need labels: {missing}")
    else:
        split, info = read
        report["class_error"] = class_errors(counts, split.labels, info.class_names, len(views))
        report["ka"] = adjustment(counts, len(views))
    return report


def of_student(
    store: LogitStore, views: list[int], student: Path, split: Split, settings: Distill, device: torch.device
) -> dict[str, Any]:
    """The temperatures that `distill.dtd` would give a student in some views; raises InputError where they don't fit."""
    model, card = load_checkpoint(student, device=device, hint="run `prepkd distill`")
    samples = Samples.of(split, device)
    refuse_differences(
        {
            "num_classes": (card["num_classes"], store.classes),
            "in_channels": (card["in_channels"], int(samples.images.shape[1])),
        },
        student,
        "name a student of this data set",
    )
    rows = temperatures(store, views, model, samples, settings)
    return {
        "student": str(student),
        "batch_size": settings.batch_size,
        "settings": settings.dtd.model_dump(mode="json"),
    } | spread(rows, settings.dtd)
