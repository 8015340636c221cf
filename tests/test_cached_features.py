"""Features from a cache: stores of what terms ask, written, resumed, checked; students equal those of a live teacher."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from prepkd import FeatureStore, LogitStore
from prepkd.data.samples.dataset import Dataset
from prepkd.errors import InputError
from prepkd.methods import terms
from prepkd.methods.entries import Entry, make_entries
from prepkd.methods.term import FeatureTerm, Shapes, State
from prepkd.models import Normalised, save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.features import Answers, WithFeatures
from prepkd.models.new import new_model, untrained_model
from prepkd.store import AnswerStore
from prepkd.store.fetch import fetch_views
from prepkd.store.integrity import damages
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.feature_caching import cache_features, cost, feature_answers, plan_features
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import Row
from prepkd.training.distillation import TeacherFiles, distill
from prepkd.training.student_settings import Distill
from prepkd.verification.live_teacher import verify_store
from small_training import CLASSES, DATASET, same, timeless
from torch import Tensor, nn

INPUTS = {"dataset": "noise", "dataset_fingerprint": "d" * 64, "split_fingerprint": "5" * 64, "device": "cpu"}
BATCH = 16


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Hint(FeatureTerm):
    """A test's own term: a linear map of the student's pooled features, scaled, is drawn to the teacher's."""

    name: ClassVar[str] = "hint"
    source: ClassVar[str] = "this test"
    weight: float = 2.0

    @property
    def features(self) -> tuple[str, ...]:
        return ("pooled",)

    def asks(self, features: Answers, other: Shapes) -> Answers:
        pooled = features["pooled"].float()
        return {"hint/pooled": pooled / (1 + pooled.norm(dim=1, keepdim=True))}

    def adapter(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        return nn.Linear(student["pooled"][0], teacher["pooled"][0])

    def loss(self, student: Answers, teacher: Answers, labels: Tensor, state: State) -> Tensor:
        assert state.adapter is not None and teacher["hint/pooled"].dtype == torch.float32
        return (state.adapter(student["hint/pooled"]) - teacher["hint/pooled"]).square().mean(dim=1)


@pytest.fixture(scope="module", autouse=True)
def hint() -> Iterator[None]:
    """One entry in the dict of terms, and the method is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(terms.TERMS, "hint", Hint)
        yield


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "resnet8", "epochs": 2, "method": method, "source": "cached", "batch_size": 16}
    wanted = small | {"precision": "float32", "lr": 0.05, "seeds": 1, "checkpoint_every": 1} | changes
    return Distill.model_validate(wanted)


@dataclass(frozen=True)
class Teacher:
    """A teacher's folder, and the root of its stores."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "t"

    @property
    def card(self) -> dict[str, Any]:
        return load_checkpoint(self.folder)[1] | {"name": "t"}

    @property
    def model(self) -> Normalised:
        return load_checkpoint(self.folder)[0]

    def cache(self, *entries: str, **changes: Any) -> Cache:
        wanted = {"views": 9, "batch_size": BATCH, "chunk": 32, "features": list(entries)}
        return Cache.model_validate(wanted | {"features_root": str(self.root / "features")} | changes)

    def entry(self, name: str, chosen: Distill | None = None, dataset: Dataset = DATASET) -> Entry:
        chosen = chosen or settings("at")
        student = untrained_model(chosen.student, dataset)
        [entry] = make_entries(chosen.entry_terms([name]), student, self.model, dataset.samples.size)
        return entry

    def write(self, name: str, scratch: Path, url: Path | None = None, **options: Any) -> Path:
        """The store of an entry."""
        place = url or Path(self.cache(name).feature_url("t", name))
        chosen = options.pop("settings", None)
        made = {"replace": False, "on_wait": print} | options
        cache_features(
            self.model, self.card, DATASET, INPUTS, self.cache(name), self.entry(name, chosen), str(place), scratch, **made
        )
        return place


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A teacher, its logits, and three entries: a term with maps, a term and a feature of vectors."""
    made = Teacher(tmp_path_factory.mktemp("teacher"))
    model = new_model("resnet14", DATASET, 9)
    save_checkpoint(made.folder, model, {"model": "resnet14", "num_classes": CLASSES, "in_channels": 1})
    cache_logits(
        made.model, made.card, DATASET, INPUTS, made.cache(), str(made.root / "t.zarr"), made.root / "scratch", on_wait=print
    )
    for name in ("at", "hint", "pooled"):
        made.write(name, made.root / "scratch")
    return made


def run(
    chosen: Distill, cache: Cache, teacher: Teacher, folder: Path, *, stop: int | None = None
) -> tuple[dict[str, Tensor], list[Row], dict[str, Any]]:
    """The student's weights, its history and card."""

    def on_epoch(seed: int, row: Row) -> None:
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    with distill(
        chosen,
        cache,
        DATASET,
        INPUTS,
        {"t": TeacherFiles(teacher.folder, str(teacher.root / "t.zarr"), None)},
        scratch=lambda fingerprint: nullcontext(folder / fingerprint),
        on_epoch=on_epoch,
        logged=lambda described: nullcontext(lambda row: None),
    ) as trained:
        [(_, model, history, card)] = trained
    return model.state_dict(), history, card


@pytest.mark.parametrize(
    ("method", "entries"),
    [
        ("at", ["at"]),
        ("ka-ps+dtd-flsw+at", ["at", "pooled"]),
        ("kd+hint", ["hint"]),
        ("kd+hint", ["pooled"]),  # made from the feature that the term reads
        ("at+hint", ["pooled", "at"]),
    ],
)
def test_cached_and_online_students_have_equal_weights(
    method: str, entries: list[str], teacher: Teacher, tmp_path: Path
) -> None:
    chosen = settings(method)
    cached, history, card = run(chosen, teacher.cache(*entries), teacher, tmp_path / "cached")
    live, rows, _ = run(settings(method, source="online"), teacher.cache(*entries), teacher, tmp_path / "online")
    assert same(cached, live) and timeless(history) == timeless(rows)
    used = set(card["inputs"]["teacher"]["t"]["features"])
    assert used == set(chosen.entries_read(entries)) and used <= set(entries)
    assert all(row[f"train/{name}"] > 0 for row in history for name in ("at", "hint") if name in method)
