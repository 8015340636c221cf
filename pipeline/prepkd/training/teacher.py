"""Training a teacher: cross-entropy on views of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.models import Normalised, pretrained
from prepkd.models.checkpoint import JSON
from prepkd.models.features import Answers
from prepkd.models.weight_layouts import PLAIN, PREPROCESSING
from prepkd.models.weights import LoadedWeights
from prepkd.runtime.streams import Purpose
from prepkd.training.batches import TEACHER, Epochs
from prepkd.training.checkpoints import Row
from prepkd.training.initial import initial_model, weights_from
from prepkd.training.loop import train
from prepkd.training.progress import OnStep, ignore_progress
from prepkd.training.teacher_settings import Teacher


def train_teacher(
    settings: Teacher,
    dataset: Dataset,
    model: Normalised | None = None,
    *,
    checkpoint: Path,
    on_epoch: Callable[[Row], None],
    on_step: OnStep = ignore_progress,
) -> tuple[Normalised, list[Row]]:
    """Train a teacher (or take its given weights, with `epochs: 0`) and return it with its history.

    Epoch e shows view e of a sampled plan with the teacher's seed, so every epoch's views are new. Training starts from `model`,
    by default `initial_model` of the settings. Views, weights and sample order have their own random streams: a student of the
    same seed and architecture starts from other weights and sees other views.
    """
    model = model or initial_model(settings.model, settings, dataset, settings.seed, Purpose.TEACHER_WEIGHTS)[0]
    if settings.epochs == 0:
        known = pretrained(settings.model)
        if known and known.classes != dataset.classes:
            raise InputError(
                f"model {settings.model!r}: its weights are for {known.classes} classes, the data has {dataset.classes}; "
                "set epochs >= 1, which trains a new classifier"
            )
        return model, []

    objective = Classification(settings.label_smoothing).to(dataset.samples.device)
    epochs = Epochs(dataset, lambda epoch: epoch, settings.seed, streams=TEACHER)
    history = train(
        model, objective, dataset, epochs, settings, checkpoint=checkpoint, on_epoch=on_epoch, on_step=on_step
    )
    return model, history


class Classification(nn.Module):
    """The objective of a teacher: cross-entropy with labels int64 (B,), or shares of the classes (B, K) for mixed views."""

    epoch: Tensor
    features: tuple[str, ...] = ()

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("epoch", torch.zeros(()), persistent=False)

    def forward(self, student: Answers, labels: Tensor, teacher: Answers) -> dict[str, Tensor]:
        """`loss` per sample (B,), of "logits" (B, K)."""
        logits = student["logits"].float()
        return {"loss": F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)}


def teacher_views(settings: Teacher) -> int:
    """The number of views of a teacher's training: one new draw per epoch."""
    return max(1, settings.epochs)


def published_preprocessing(card: Mapping[str, Any]) -> str | None:
    """The `preprocessing` setting of the authors of a file's format on this data set; None if it is not known."""
    if card.get("weights_from", {}).get("format", PLAIN) == PLAIN:
        return None
    known = PREPROCESSING.get(card["inputs"]["dataset"])
    return f"{{mean: {known['mean']}, std: {known['std']}}}" if known else None


def teacher_card(
    model: Normalised,
    settings: Teacher,
    dataset: Dataset,
    inputs: Mapping[str, JSON],
    loaded: LoadedWeights | None = None,
) -> dict[str, JSON]:
    """Return a teacher's card, without the entries that `save_checkpoint` adds."""
    return {
        "model": settings.model,
        "num_classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "in_channels": dataset.samples.channels,
        "evaluation": dataset.framing.model_dump(),
        "training": settings.model_dump(mode="json"),
        "inputs": dict(inputs),
        "parameters": sum(p.numel() for p in model.parameters()),
        **weights_from(settings, inputs, loaded),
    }
