"""Train students for a few epochs from a teacher or its store, with the settings of params.yaml's comparison."""

from pathlib import Path
from typing import Any

import torch
from commands import ROOT
from prepkd.data.samples.dataset import Dataset
from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.distillation.student import train_students
from prepkd.distillation.student_settings import Distill
from prepkd.project.params import load_params
from prepkd.store import LogitStore
from prepkd.teacher.cached import CachedTeacher
from prepkd.teacher.settings import Cache
from prepkd.training.batches import TeacherAnswers
from prepkd.training.checkpoints import Row
from prepkd.views import ViewPlan
from ruamel.yaml import YAML
from small_training import CLASSES, COUNT, context_in, textures
from torch import Tensor

PARAMS = ROOT / "params.yaml"
RUNS: list[str] = YAML(typ="safe", pure=True).load(PARAMS)["compare"]["runs"]
# Chunks of two and a half batches; the last chunk and its last batch are short.
CACHE = Cache(views="all", batch_size=16, chunk=40)
PLANS: dict[str, int | str] = {"sampled": 3, "exhaustive": "all"}
CPU = torch.device("cpu")


def dataset_of(views: str, seed: int = 5) -> Dataset:
    plan = ViewPlan([{"crop": {"padding": 1}}], PLANS[views], seed, COUNT)  # type: ignore[arg-type]
    return Dataset(textures(COUNT, 0), {"test": textures(30, 2)}, plan, Preprocessing(mean=(0.3,), std=(0.2,)), CLASSES)


def settings(run: str = "kd", **changes: Any) -> Distill:
    """Settings of a run of params.yaml's comparison, made small."""
    small = ["student=convnet4", "epochs=2", "batch_size=16", "seeds=1", "lr=0.05"]
    chosen = load_params(PARAMS, [f"distill.{change}" for change in small]).variant(run)
    return Distill.model_validate(chosen.model_dump(exclude_unset=True) | changes)


def trained_seeds(
    chosen: Distill, dataset: Dataset, teacher: TeacherAnswers | None, folder: Path, **changes: Any
) -> dict[int, tuple[dict[str, Tensor], list[Row]]]:
    """Train every seed; map it to its weights and history."""
    wanted: dict[str, Any] = {
        "inputs": {},
        "scratch": folder.joinpath,
        "context": context_in(folder),
    }
    trained = train_students(chosen, dataset, teacher, **wanted | changes)
    return {seed: (model.state_dict(), history) for seed, model, history in trained}


def cached(store: LogitStore, order: str) -> CachedTeacher:
    return CachedTeacher(store, CPU, resident=order == "random", resident_gib=1.0)
