"""Training a teacher: cross-entropy on views of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError
from prepkd.models import Normalised, load_weights, pretrained
from prepkd.models.checkpoint import JSON
from prepkd.models.new import new_model
from prepkd.models.weight_layouts import PLAIN, PREPROCESSING
from prepkd.models.weights import read_state
from prepkd.runtime.files import file_sha256
from prepkd.training.checkpoints import Row
from prepkd.training.loop import train
from prepkd.training.teacher_settings import Teacher


def train_teacher(
    settings: Teacher,
    dataset: Dataset,
    *,
    checkpoint: Path,
    on_epoch: Callable[[Row], None],
) -> tuple[Normalised, list[Row]]:
    """Train a teacher (or take its given weights, with `epochs: 0`) and return it with its history.

    Epoch e shows view e of a sampled plan with the teacher's seed, so every epoch's views are new.
    """
    asked = settings.preprocessing
    own = Preprocessing.from_description(asked.model_dump()) if asked else None
    model = new_model(settings.model, dataset, settings.seed, own)
    if settings.weights:
        load_weights(model.body, settings.weights)
    if settings.epochs == 0:
        known = pretrained(settings.model)
        if known and known.classes != dataset.classes:
            raise InputError(
                f"model {settings.model!r}: its weights are for {known.classes} classes, the data has {dataset.classes}; "
                "set epochs >= 1, which trains a new classifier"
            )
        return model, []

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        # Labels int64 (B,), or where views mix two samples a share of each class (B, K).
        values = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=settings.label_smoothing)
        return {"loss": values}

    history = train(
        model,
        settings,
        loss,
        samples=dataset.samples,
        held_out=dataset.held_out,
        plan=dataset.plan,
        classes=dataset.classes,
        views_of=lambda epoch: epoch,
        teacher=None,
        seed=settings.seed,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    return model, history


def teacher_views(settings: Teacher) -> int:
    """How many views a teacher's training shows: one new draw an epoch."""
    return max(1, settings.epochs)


def given_weights(settings: Teacher) -> dict[str, str]:
    """Where the weights come from that training starts from, and a file's SHA-256; raises InputError.

    Part of the run's inputs, so that a changed file is a different run.
    """
    if known := pretrained(settings.model):
        return {"given_weights": known.source}
    if settings.weights is None:
        return {}
    if not settings.weights.is_file():
        raise InputError(
            f"{settings.weights}: no such file; set teachers.NAME.weights to a file of weights, or remove it"
        )
    return {"given_weights": file_sha256(settings.weights)}


def weights_from(settings: Teacher, inputs: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a card says of given weights: a library's `source`, or a `file` with its `sha256` and `format`; else nothing."""
    if "given_weights" not in inputs:
        return {}
    if settings.weights is None:
        return {"weights_from": {"source": inputs["given_weights"]}}
    _, form = read_state(settings.weights)
    return {"weights_from": {"file": str(settings.weights), "sha256": inputs["given_weights"], "format": form}}


def published_preprocessing(card: Mapping[str, Any]) -> str | None:
    """The setting that does to pixels what the authors of a file's format do on this data; None where that isn't known."""
    if card.get("weights_from", {}).get("format", PLAIN) == PLAIN:
        return None
    known = PREPROCESSING.get(card["inputs"]["dataset"])
    return f"{{mean: {known['mean']}, std: {known['std']}}}" if known else None


def describe(model: Normalised, settings: Teacher, dataset: Dataset, inputs: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a teacher's card says besides its weights."""
    return {
        "model": settings.model,
        "num_classes": dataset.classes,
        "in_channels": dataset.samples.channels,
        "training": settings.model_dump(mode="json"),
        "inputs": dict(inputs),
        "parameters": sum(p.numel() for p in model.parameters()),
        **weights_from(settings, inputs),
    }
