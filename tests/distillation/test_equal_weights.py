"""For every term of `TERMS`, a student trained from stores has the weights of one trained with the live teacher."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.distill import distill
from prepkd.distillation.student_settings import Distill
from prepkd.methods.entries import make_entries
from prepkd.methods.grammar import parse_method
from prepkd.methods.term import FeatureTerm, LabelTerm
from prepkd.methods.terms import TERMS
from prepkd.models import save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.new import new_model, untrained_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.store.destination import Destination
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.feature_caching import cache_features
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import Row
from prepkd.views import make_plan
from small_training import CLASSES, COUNT, DATASET, context_in, same, timeless
from torch import Tensor

WEAK: list[Any] = [{"crop": {"padding": 1}}, "flip"]
PAIRED: Dataset = replace(DATASET, plan=make_plan(WEAK, 2, 5, COUNT, [*WEAK, "erase"]))
SINGLE: Dataset = replace(PAIRED, plan=PAIRED.plan.weak)
FEATURES = [name for name, term in TERMS.items() if issubclass(term, FeatureTerm)]
CHANGES: dict[str, dict[str, Any]] = {"sld": {"student_from_epoch": 0}, "crd": {"count": 32}}

pytestmark = pytest.mark.usefixtures("one_thread")


def method(name: str) -> str:
    """A method with the term; label terms that don't replace the teacher are combined with kd."""
    term = TERMS[name]
    return f"{name}+kd" if issubclass(term, LabelTerm) and name != "ce" and not term.replaces_teacher else name


RUNS: dict[str, tuple[str, dict[str, Any]]] = {name: (method(name), {}) for name in TERMS} | {
    "crd, in the batch": ("crd", {"crd": {"negatives": "batch"}}),
    "ka-lsr+nkd": ("ka-lsr+nkd", {}),
    "label-revision+wttm": ("label-revision+wttm", {}),
    "all slots": ("lsr+noisy-teacher+ka-ps+ls+dtd-flsw+dkd+at", {"ce_weight": 0.5}),
}


def settings(text: str, **changes: Any) -> Distill:
    """Settings of one epoch, with two views per step if the method needs them."""
    small = {"teacher": "t", "student": "resnet8", "epochs": 1, "method": text, "batch_size": 16, "seeds": 1}
    wanted = small | {"precision": "float32", "lr": 0.01, "views_per_step": parse_method(text).views}
    return Distill.model_validate(wanted | CHANGES | changes)


@dataclass(frozen=True)
class Teacher:
    """A teacher below `root`, its logits of weak and strong views, and one store per feature term's entry."""

    root: Path

    def cache(self, *entries: str) -> Cache:
        wanted = {"views": 2, "batch_size": 32, "chunk": 64, "features": list(entries)}
        return Cache.model_validate(wanted | {"features_root": str(self.root / "features")})

    def loaded(self) -> LoadedTeacher:
        return LoadedTeacher("t", *load_checkpoint(self.root / "t"))

    def write(self, *names: str) -> None:
        """Write the stores of the logits and of the entries."""
        scratch = self.root / "scratch"
        cache_logits(self.loaded(), PAIRED, self.cache(), Destination(str(self.root / "t.zarr"), scratch, print))
        terms, student = settings("kd").entry_terms(names), untrained_model("resnet8", SINGLE)
        for entry in make_entries(terms, student, self.loaded().model, SINGLE.samples.size):
            place = Destination(self.cache().feature_url("t", entry.name), scratch, print)
            cache_features(self.loaded(), SINGLE, self.cache(), entry, place)


def made(root: Path, model: str, *names: str) -> Teacher:
    """Make a teacher with random weights and its stores."""
    save_checkpoint(
        root / "t", new_model(model, DATASET, 9), {"model": model, "num_classes": CLASSES, "in_channels": 1}
    )
    found = Teacher(root)
    found.write(*names)
    return found


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return made(tmp_path_factory.mktemp("teacher"), "resnet14", *FEATURES)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return made(tmp_path_factory.mktemp("wide"), "resnet8x4", *FEATURES)


def run(chosen: Distill, teacher: Teacher, folder: Path) -> tuple[dict[str, Tensor], list[Row]]:
    """Train one student; return its weights and history."""
    features = [term.name for term in chosen.terms.feature_terms]
    with distill(
        chosen,
        teacher.cache(*features),
        PAIRED,
        {"t": TeacherFiles(teacher.root / "t", str(teacher.root / "t.zarr"), None, "prepkd train-teacher t")},
        context_in(folder),
    ) as trained:
        [(_, model, history, _)] = trained
    return model.state_dict(), history


def equal(text: str, changes: dict[str, Any], teacher: Teacher, folder: Path) -> list[Row]:
    """Train both students, compare them, and return the history."""
    cached, history = run(settings(text, **changes), teacher, folder / "cached")
    live, rows = run(settings(text, **changes, source="online"), teacher, folder / "online")
    assert same(cached, live) and timeless(history) == timeless(rows)
    assert all(values.isfinite().all() for values in cached.values())
    return history


@pytest.mark.parametrize("name", RUNS)
def test_cached_and_online_students_have_equal_weights(name: str, teacher: Teacher, tmp_path: Path) -> None:
    text, changes = RUNS[name]
    [row] = equal(text, changes, teacher, tmp_path)
    parsed = parse_method(text)
    parts = [*(["kd"] if parsed.divergence else []), *(term.name for term in parsed.feature_terms)]
    assert all(row[f"train/{part}"] != 0 for part in parts)


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "fsp"])  # fsp needs equal channels
def test_with_a_student_of_fewer_channels_than_the_teachers(name: str, wide: Teacher, tmp_path: Path) -> None:
    """Stored entries serve such a student too: they depend on the teacher's channels only, nst's included."""
    equal(name, {}, wide, tmp_path)
