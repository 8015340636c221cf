"""A small dataset and helpers for tests of the training loop; a training takes seconds."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.data.samples.samples import Samples
from prepkd.distillation.distill import distill
from prepkd.distillation.student_settings import StudentSettings
from prepkd.models import Normalised
from prepkd.models.new import new_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.teacher.settings import Cache
from prepkd.training.batches import Epochs, Views
from prepkd.training.checkpoints import Row
from prepkd.training.context import RunContext
from prepkd.training.loop import train
from prepkd.training.progress import ignore_progress
from prepkd.training.settings import Training
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan
from torch import Tensor, nn
from torch.nn import functional as F

COUNT, CLASSES, EPOCHS = 70, 4, 4
SCHEDULES = {
    "multi-step": {"schedule": "multi-step", "milestones": [2, 3]},
    "cosine": {"schedule": "cosine"},
    "one-cycle": {"schedule": "one-cycle"},
}


def textures(count: int, seed: int) -> Samples:
    """Noise over rows, columns, a chessboard or nothing: four classes that take some epochs to learn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    patterns = torch.stack([rows % 2, columns % 2, (rows + columns) % 2, torch.zeros_like(rows)])
    images += (40 * patterns[labels]).unsqueeze(1).to(torch.uint8)
    return Samples(images, labels)


ORIGIN = {"dataset": "noise", "dataset_fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "device": "cpu"}
DATASET = Dataset(
    textures(COUNT, 0),
    {"val": textures(20, 1), "test": textures(30, 2)},
    ViewPlan([{"crop": {"padding": 1}}, "flip"], 9, 5, COUNT),
    Preprocessing(mean=(0.3,), std=(0.2,)),
    CLASSES,
    origin=ORIGIN,
)


def settings(**changes: Any) -> Training:
    return Training.model_validate({"epochs": EPOCHS, "batch_size": 16, "lr": 0.05, "precision": "float32"} | changes)


def teacher_of(**changes: Any) -> Teacher:
    """Settings of a teacher, with changes."""
    own = {"model": "convnet4", "epochs": 2, "seed": 3}
    return Teacher.model_validate(settings().model_dump(exclude_unset=True) | own | changes)


def cross_entropy(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
    return {"loss": F.cross_entropy(logits.float(), labels, reduction="none")}


class FromLoss(nn.Module):
    """An objective from a function of the student's logits, the labels and the teacher's tensors in order."""

    epoch: Tensor
    features: tuple[str, ...] = ()

    def __init__(self, loss: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__()
        self.loss = loss
        self.register_buffer("epoch", torch.zeros(()), persistent=False)

    def forward(
        self, student: Mapping[str, Tensor], labels: Tensor, teacher: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return self.loss(student["logits"], labels, *teacher.values())


class Answers:
    """A teacher from a function of views, called up to `prefetch_depth` epochs ahead."""

    names = ("logits", "row_max")

    def __init__(self, answer: Callable[[Views], Mapping[str, Tensor]], prefetch_depth: int = 1) -> None:
        self.answer, self.prefetch_depth = answer, prefetch_depth

    def __call__(self, views: Views) -> Mapping[str, Tensor]:
        return self.answer(views)


def ignore(row: Row) -> None:
    pass


def fit(checkpoint: Path, chosen: Training, *, model: nn.Module | None = None, **changes: Any) -> tuple[Any, list[Row]]:
    """Train `model`, by default a new convnet4, on a loss or an objective; return its weights and history."""
    model = model or new_model("convnet4", DATASET, 0)
    wanted = {
        "loss": cross_entropy,
        "samples": DATASET.samples,
        "held_out": DATASET.held_out,
        "plan": DATASET.plan,
        "classes": CLASSES,
        "views_of": lambda epoch: epoch,
        "teacher": None,
        "seed": 3,
        "on_epoch": ignore,
        "on_step": ignore_progress,
    } | changes
    parts = {name: wanted[name] for name in ("samples", "held_out", "plan", "classes")}
    dataset = replace(DATASET, **parts)
    history = train(
        model,
        wanted.get("objective") or FromLoss(wanted["loss"]),
        dataset,
        Epochs(dataset, wanted["views_of"], wanted["seed"], wanted["teacher"]),
        chosen,
        checkpoint=checkpoint,
        on_epoch=wanted["on_epoch"],
        on_step=wanted["on_step"],
    )
    return model.state_dict(), history


def context_in(folder: Path, on_epoch: Callable[[int, Row], None] = lambda seed, row: None) -> RunContext:
    """A run context that keeps its work in `folder`, without locks and loggers."""
    return RunContext(lambda run: nullcontext(folder / run), lambda run: nullcontext(ignore), on_epoch)


def distilled(
    chosen: StudentSettings,
    cache: Cache,
    dataset: Dataset,
    teachers: Mapping[str, TeacherFiles],
    folder: Path,
    *,
    stop: int | None = None,
) -> tuple[Normalised, list[Row], dict[str, Any]]:
    """Train the only student of a run; return its model, history and card.

    Checkpoints are in `folder`; a KeyboardInterrupt is raised at the end of epoch `stop`.
    """

    def on_epoch(seed: int, row: Row) -> None:
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    with distill(chosen, cache, dataset, teachers, context_in(folder, on_epoch)) as trained:
        [(_, model, history, card)] = trained
    return model, history, card


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def timeless(history: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in history]


def stop_after(epoch: int, by: type[BaseException]) -> Callable[[Row], None]:
    def on_epoch(row: Row) -> None:
        if row["epoch"] == epoch:
            raise by

    return on_epoch


class Watched(nn.Module):
    """A linear model that remembers the pixels it was trained on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(64, classes)
        with torch.no_grad():
            self.fc.weight.copy_(torch.linspace(-0.1, 0.1, 64 * classes).view(classes, 64))
            self.fc.bias.zero_()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        return self.fc(x.flatten(1))
