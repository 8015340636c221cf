"""Random streams are separate per purpose: no words of one seed serve two purposes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import ROOT, enter
from prepkd.cli import app
from prepkd.distillation import student as students
from prepkd.distillation.student import seeded, train_students
from prepkd.distillation.student_settings import Distill
from prepkd.models import Normalised
from prepkd.runtime.streams import Purpose, raw_words, torch_seed
from prepkd.store import LogitStore
from prepkd.training import teacher as teachers
from prepkd.training.batches import TEACHER, Epochs
from prepkd.training.teacher import train_teacher
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan
from small_training import DATASET, context_in, fit, ignore, same, settings, stop_after, timeless
from torch import Tensor, nn
from typer.testing import CliRunner


def test_no_two_purposes_share_words() -> None:
    assert len(Purpose) == len(Purpose.__members__), "two names of one byte"
    assert all(0 < purpose < 256 for purpose in Purpose)
    assert [purpose.stream(7) for purpose in Purpose] == [purpose * 2**56 + 7 for purpose in Purpose]
    streams = [purpose.stream(index) for purpose in Purpose for index in (0, 1)]
    words = np.concatenate([raw_words(0, stream, 0, 500) for stream in streams])
    assert len(np.unique(words)) == len(words)


def test_the_choice_of_prepared_images_is_what_it_was() -> None:
    """Data prepared by earlier versions keep their images."""
    old = {"VAL": 1 << 62, "SUBSET_OF_TRAIN": 2 << 62, "SUBSET_OF_VAL": 5 << 61, "SUBSET_OF_TEST": 3 << 62}
    assert {name: Purpose[name].stream() for name in old} == old


def test_seeds_of_torch_differ_in_the_bits_that_torch_reads() -> None:
    """On the CPU torch reads the low 32 bits, so that 2^62 + seed would equal seed."""
    found = {torch_seed(seed, purpose.stream(index)) for seed in range(5) for purpose in Purpose for index in (0, 1)}
    assert len(found) == 5 * len(Purpose) * 2 and max(found) < 2**32


class Called:
    """A stand-in for `train` that records the initial weights and the epochs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
        for module in modules:
            monkeypatch.setattr(module, "train", self)
        self.starts: list[dict[str, Tensor]] = []
        self.epochs: list[Epochs] = []

    def __call__(
        self, model: Normalised, objective: object, dataset: object, epochs: Epochs, *_: Any, **__: Any
    ) -> Any:
        self.starts.append({key: value.clone() for key, value in model.state_dict().items()})
        self.epochs.append(epochs)
        return []


def test_teacher_and_student_of_one_architecture_and_seed_share_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = Called(monkeypatch, teachers, students)
    for seed in (0, 5):
        chosen = Teacher(model="convnet4", epochs=3, precision="float32", seed=seed)
        train_teacher(chosen, DATASET, checkpoint=tmp_path / "checkpoint.pt", on_epoch=ignore)
        untaught = Distill(teacher="t", student="convnet4", method="ce", seeds=[seed], epochs=3)
        context = context_in(tmp_path)
        list(train_students(untaught, DATASET, None, inputs={}, scratch=lambda run: tmp_path, context=context))
    for theirs, ours in ((0, 1), (2, 3)):
        assert not same(called.starts[theirs], called.starts[ours])
        for epoch in range(3):
            first, second = (called.epochs[run].read(epoch).order for run in (theirs, ours))
            # Two permutations of 70 samples agree in one place on average, and in 9 or more with probability 1e-6.
            assert (first == second).sum() < 9
            assert called.epochs[theirs].dropout_seed(epoch) != called.epochs[ours].dropout_seed(epoch)


def test_adapters_do_not_start_from_the_words_of_the_student() -> None:
    def draw() -> Any:
        return torch.rand(9)

    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(3, Purpose.STUDENT_WEIGHTS.stream()))
        students_own = torch.rand(9)
    assert not torch.equal(seeded(draw, 3), students_own)  # type: ignore[arg-type]
    assert torch.equal(seeded(draw, 3), seeded(draw, 3)) and not torch.equal(seeded(draw, 3), seeded(draw, 4))  # type: ignore[arg-type]


def test_drawn_views_are_cached_that_the_teacher_was_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two independent draws of 49 places agree with probability 1/49; the same seed once made all of them equal."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    enter(tmp_path, monkeypatch)
    changes = ["prepare.subset=12", "teachers.large.model=convnet4", "teachers.large.epochs=2", "cache.views=2"]
    options = [part for change in [*changes, "augment=[{crop: {padding: 3}}]"] for part in ("-S", change)]
    lessons: list[ViewPlan] = []

    def watched(self: Epochs, epoch: int) -> Any:
        if self.streams == TEACHER:
            lessons.append(self.dataset.plan)
        return read(self, epoch)

    read = Epochs.read
    monkeypatch.setattr(Epochs, "read", watched)
    for command in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 0, (done.output, done.exception)
    cached = LogitStore.open("data/logits/large.zarr").plan
    assert len(lessons) == 2 and (cached.seed, lessons[0].seed) == (0, 0)
    for view in range(2):
        ours, theirs = cached.parameters(view), lessons[view].parameters(view)
        assert len(ours) == 120 and (ours == theirs).all(axis=1).mean() < 0.15
    card = json.loads(Path("models/teachers/large/model.json").read_text())
    assert card["inputs"]["plan_fingerprint"] == lessons[0].fingerprint != cached.fingerprint


# Random draws of a model during training


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(nn.functional.dropout(x.flatten(1), 0.5, self.training))
        return found


def test_dropout_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    chosen = settings(checkpoint_every=1)
    torch.manual_seed(1)
    weights, history = fit(tmp_path / "whole.pt", chosen, model=Forgetful())
    model = Forgetful()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again, _ = fit(tmp_path / "again.pt", chosen, model=model)
    assert torch.equal(before, torch.random.get_rng_state()), "torch's random state outside stays as it was"
    assert same(again, weights)
    with pytest.raises(MemoryError):
        fit(tmp_path / "cut.pt", chosen, model=Forgetful(), on_epoch=stop_after(1, MemoryError))
    torch.manual_seed(3)
    resumed, rows = fit(tmp_path / "cut.pt", chosen, model=Forgetful())
    assert same(resumed, weights) and timeless(rows) == timeless(history)
