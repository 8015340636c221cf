"""Helpers for tests of feature stores: a teacher with cached features, settings, and a student's run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student_settings import Distill
from prepkd.methods.entries import Entry, make_entries
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.models import Normalised, save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.features import Answers
from prepkd.models.new import new_model, untrained_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.store.destination import Destination
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.feature_caching import cache_features
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import Row
from small_training import CLASSES, DATASET, distilled
from torch import Tensor, nn

BATCH = 16


class Hint(FeatureTerm):
    """A feature term defined by the tests: mean squared error between mapped student and scaled teacher pooled features."""

    name = "hint"
    source = "this test"
    weight: float = 2.0

    @property
    def features(self) -> tuple[str, ...]:
        return ("pooled",)

    def teacher_tensors(self, features: Answers, other: Shapes) -> Answers:
        pooled = features["pooled"].float()
        return {"hint/pooled": pooled / (1 + pooled.norm(dim=1, keepdim=True))}

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        return nn.Linear(student["pooled"][0], teacher["pooled"][0])

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        assert state.adapter is not None and teacher["hint/pooled"].dtype == torch.float32
        return (state.adapter(student["hint/pooled"]) - teacher["hint/pooled"]).square().mean(dim=1)


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "resnet8", "epochs": 2, "method": method, "source": "cached", "batch_size": 16}
    wanted = small | {"precision": "float32", "lr": 0.05, "seeds": 1, "checkpoint_every": 1} | changes
    return Distill.model_validate(wanted)


@dataclass(frozen=True)
class Teacher:
    """A teacher below `root`: its folder, its stores, and settings to cache it."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "t"

    @property
    def loaded(self) -> LoadedTeacher:
        return LoadedTeacher("t", *load_checkpoint(self.folder))

    @property
    def model(self) -> Normalised:
        return self.loaded.model

    def cache(self, *entries: str, **changes: Any) -> Cache:
        wanted = {"views": 9, "batch_size": BATCH, "chunk": 32, "features": list(entries)}
        return Cache.model_validate(wanted | {"features_root": str(self.root / "features")} | changes)

    def entry(self, name: str, chosen: Distill | None = None, dataset: Dataset = DATASET) -> Entry:
        chosen = chosen or settings("at")
        student = untrained_model(chosen.student, dataset)
        [entry] = make_entries(chosen.entry_terms([name]), student, self.model, dataset.samples.size)
        return entry

    def write(self, name: str, scratch: Path, url: Path | None = None, **options: Any) -> Path:
        """Write the store of an entry; return its path or URL."""
        place = url or Path(self.cache(name).feature_url("t", name))
        chosen = options.pop("settings", None)
        destination = Destination(str(place), scratch, print, **options)
        cache_features(self.loaded, DATASET, self.cache(name), self.entry(name, chosen), destination)
        return place


def make_teacher(root: Path) -> Teacher:
    """Cache a teacher's logits and four entries: terms with maps (at), bits (ab) and vectors (hint), and a feature (pooled)."""
    made = Teacher(root)
    model = new_model("resnet14", DATASET, 9)
    save_checkpoint(made.folder, model, {"model": "resnet14", "num_classes": CLASSES, "in_channels": 1})
    destination = Destination(str(made.root / "t.zarr"), made.root / "scratch", print)
    cache_logits(made.loaded, DATASET, made.cache(), destination)
    for name in ("at", "ab", "hint", "pooled"):
        made.write(name, made.root / "scratch")
    return made


def run(
    chosen: Distill, cache: Cache, teacher: Teacher, folder: Path, *, stop: int | None = None
) -> tuple[dict[str, Tensor], list[Row], dict[str, Any]]:
    """Train one student; return its weights, history and card."""
    files = {"t": TeacherFiles(teacher.folder, str(teacher.root / "t.zarr"), None, "prepkd train-teacher t")}
    model, history, card = distilled(chosen, cache, DATASET, files, folder, stop=stop)
    return model.state_dict(), history, card


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
