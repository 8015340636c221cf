"""Make a small project with prepared data and one student, trained in a second, and images for it."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from prepkd.data.prepared.prepare import prepare
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.read import TrainingViews, read_dataset
from prepkd.data.sources.settings import Prepare
from prepkd.distillation.student_settings import Distill
from prepkd.models import Normalised, save_checkpoint
from prepkd.models.new import new_model
from prepkd.training.evaluation import predict, top1
from prepkd.views import parse_recipe
from torch.nn import functional as F

CPU = torch.device("cpu")


@dataclass
class Project:
    """A folder with `data/NAME.h5` and `models/student/seed0`, the student, its data and its logits of the test images."""

    folder: Path
    data: Path
    dataset: Dataset
    model: Normalised
    logits: torch.Tensor

    @property
    def student(self) -> Path:
        return self.folder / "models/student/seed0"

    def card(self) -> dict[str, Any]:
        from prepkd.models import load_card

        return load_card(self.student)


def make_project(
    folder: Path,
    dataset: str = "digits",
    raw: Path | None = None,
    *,
    model: str = "convnet8",
    recipe: Any = (),
    steps: int = 60,
) -> Project:
    """Prepare data and train a student on them for some steps of Adam."""
    data = folder / f"data/{dataset}.h5"
    prepare(Prepare(dataset=dataset).source.read(raw or folder), val_fraction=0, subset=None, seed=0, path=data)
    parsed = parse_recipe(recipe)
    loaded = read_dataset(data, TrainingViews(parsed, 1, 0), CPU, held_out_recipe=parsed)
    student = new_model(model, loaded, 0).train()
    optimiser = torch.optim.Adam(student.parameters(), lr=0.02)
    pixels = loaded.samples.evaluation_pixels(slice(None))
    for step in range(steps):
        chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(step))[:128]
        loss = F.cross_entropy(student(pixels[chosen]), loaded.samples.labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    logits = predict(student, loaded.held_out["test"])
    settings = Distill(teacher="large", student=model, epochs=1, batch_size=128, lr=0.02, seeds=1)
    card = {
        "model": model,
        "num_classes": loaded.classes,
        "class_names": list(loaded.class_names),
        "in_channels": loaded.samples.channels,
        "evaluation": loaded.framing.model_dump(),
        "training": settings.model_dump(mode="json"),
        "training_version": 1,
        "inputs": {
            **loaded.origin,
            "data": str(data),
            "teacher": {"large": {"teacher": "ab" * 32, "views": "cd" * 32}},
        },
        "seed": 0,
        "test_top1": top1(logits, loaded.held_out["test"].labels),
    }
    save_checkpoint(folder / "models/student/seed0", student, card)
    return Project(folder, data, loaded, student, logits)


def saved(path: Path, pixels: Any, kind: str = "PNG", **options: Any) -> Path:
    """Write an image file from pixels, (H, W) or (H, W, C), or from a Pillow image; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels).squeeze())
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    path.write_bytes(stream.getvalue())
    return path
