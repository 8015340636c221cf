"""Helpers for tests of `prepkd inspect`: data, labels, a student and settings for made-up stores."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up_store import CLASSES, SAMPLES, MadeUp
from prepkd.data.prepared.file import DataInfo, Split
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.display.console import TextConsole
from prepkd.distillation.student_settings import Distill
from prepkd.inspection.logit_statistics import logit_statistics
from prepkd.inspection.store_facts import StoreFacts
from prepkd.inspection.store_inspection import StoreInspection
from prepkd.inspection.tables import tables
from prepkd.models import Normalised, build_model, save_checkpoint
from prepkd.store.attributes import Attributes

NAMES = tuple(f"class-{k}" for k in range(CLASSES))


def read(made: MadeUp) -> tuple[Split, DataInfo]:
    generator = np.random.Generator(np.random.Philox(4))
    images = generator.integers(0, 256, (SAMPLES, 8, 8, 1), dtype=np.uint8)
    info = DataInfo("made-up", NAMES, (8, 8, 1), {"train": SAMPLES}, "d" * 64, {"train": "5" * 64})
    return Split(images, made.labels.numpy(), "5" * 64), info


def statistics(
    made: MadeUp, views: list[int], data: tuple[Split, DataInfo] | None, missing: str = ""
) -> dict[str, Any]:
    """The statistics of a store's logits as JSON, at tau 4."""
    return logit_statistics(made.store, views, data, 4.0, missing).as_json()


def naive_softmax(row: Any, tau: float) -> list[float]:
    top = max(float(z) for z in row)
    weights = [math.exp((float(z) - top) / tau) for z in row]
    return [weight / sum(weights) for weight in weights]


def student(folder: Path, classes: int = CLASSES) -> Normalised:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        model = Normalised(build_model("convnet4", classes, in_channels=1), Preprocessing((0.3,), (0.4,)))
        model(torch.rand(64, 1, 8, 8))  # moves the batch norms' statistics
        torch.nn.init.normal_(next(p for p in reversed(list(model.parameters())) if p.ndim == 2))
    card = {"model": "convnet4", "num_classes": classes, "in_channels": 1}
    save_checkpoint(folder, model, card)
    return model.eval()


DTD = {"tau_0": 3.0, "tau_min": 2.9, "tau_max": 3.2, "flsw": {"beta": 2.0, "gamma": 1.5}, "cwsm": {"beta": 0.3}}


def settings(**changes: Any) -> Distill:
    given = {"epochs": 1, "teacher": "large", "student": "convnet4", "method": "ce", "batch_size": 7, "dtd": DTD}
    return Distill.model_validate(given | changes)


def with_attributes(facts: StoreFacts, **changes: Any) -> StoreFacts:
    """Facts with changed attributes; None removes an attribute."""
    described = facts.attributes.model_dump() | changes
    kept = {key: value for key, value in described.items() if value is not None}
    return replace(facts, attributes=Attributes.model_validate(kept))


def printed(inspection: StoreInspection, columns: int) -> str:
    file = io.StringIO()
    TextConsole(file=file, width=columns).print(tables(inspection))
    return file.getvalue()
