"""Whole runs of feature methods with a live teacher: adapters are trained, resumed and kept out of the student's file."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student import seeded
from prepkd.distillation.student_settings import Distill, StudentSettings
from prepkd.methods.objective import Objective
from prepkd.models import Normalised, save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.new import new_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.teacher.settings import Cache
from prepkd.training.checkpoints import CHECKSUM, Row
from small_training import CLASSES, DATASET, distilled, same, timeless
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    model = new_model("resnet14", DATASET, 9)
    save_checkpoint(folder, model, {"model": "resnet14", "num_classes": CLASSES, "in_channels": 1})
    return folder


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "resnet8", "epochs": 3, "method": method, "source": "online", "batch_size": 16}
    wanted = small | {"precision": "float32", "lr": 0.05, "seeds": 1, "checkpoint_every": 1}
    if method == "nst":  # alone, its loss oscillates in these few steps at lr 0.003 and above
        wanted |= {"lr": 5e-4, "nst": {"weight": 20.0}}
    wanted |= changes
    return Distill.model_validate(wanted)


def run(
    chosen: StudentSettings, teacher: Path, folder: Path, *, dataset: Dataset = DATASET, stop: int | None = None
) -> tuple[Normalised, list[Row], dict[str, Any], dict[str, Tensor]]:
    """Train one student; return it, its history and card, and the adapters' state in the last checkpoint."""
    files: Mapping[str, TeacherFiles] = {"t": TeacherFiles(teacher, "no store", None, "prepkd train-teacher t")}
    cache = Cache(views=1, batch_size=16)
    model, history, card = distilled(chosen, cache, dataset, files, folder, stop=stop)
    [checkpoint] = folder.glob("*/checkpoint.pt")
    packed = checkpoint.read_bytes()[CHECKSUM:]
    state = torch.load(io.BytesIO(packed), weights_only=True)["objective"]
    return model, history, card, state


@pytest.mark.parametrize(
    "method",
    [
        *("at", "kd+at", "ka-ps+dkd+at", "hint", "dtd-flsw+at+hint"),
        *("fitnet", "nst", "sp", "sp-pooled", "rkd", "pkt", "vid", "cc", "ka-ps+dtd-flsw+rkd+vid"),
        *("fsp", "ab", "ofd", "ka-ps+dtd-flsw+ofd"),
    ],
)
def test_a_run_learns_is_repeatable_and_resumes_to_the_same_bits(
    method: str, hint: None, teacher: Path, tmp_path: Path
) -> None:
    chosen = settings(method)
    model, history, _, adapters = run(chosen, teacher, tmp_path / "whole")
    for name in chosen.parsed_method.feature_terms:
        values = [row[f"train/{name.name}"] for row in history]
        assert all(value > 0 for value in values) and values[-1] < values[0]
    with pytest.raises(KeyboardInterrupt):
        run(chosen, teacher, tmp_path / "cut", stop=1)
    resumed, rows, _, same_adapters = run(chosen, teacher, tmp_path / "cut")
    assert same(resumed.state_dict(), model.state_dict()) and same(same_adapters, adapters)
    assert timeless(rows) == timeless(history)


@pytest.mark.parametrize("negatives", ["bank", "batch"])
def test_crd_learns_and_resumes_with_its_bank_to_the_same_bits(negatives: str, teacher: Path, tmp_path: Path) -> None:
    """The loss ends below its maximum, not its start: it rises while the bank's rows are random and their scores low."""
    chosen = settings("ka-ps+crd", epochs=8, crd={"negatives": negatives, "count": 64})
    model, history, card, adapters = run(chosen, teacher, tmp_path / "whole")
    values = [row["train/crd"] for row in history]
    assert values[-1] < max(values) and values[-1] < values[1]
    with pytest.raises(KeyboardInterrupt):
        run(chosen, teacher, tmp_path / "cut", stop=1)
    resumed, rows, _, same_adapters = run(chosen, teacher, tmp_path / "cut")
    assert same(resumed.state_dict(), model.state_dict()) and same(same_adapters, adapters)
    assert timeless(rows) == timeless(history)
    state = {key.removeprefix("adapters.crd.") for key in adapters}
    assert {"rows", "labels", "log_z"} <= state if negatives == "bank" else len(state) == 4
    if negatives == "bank":
        assert torch.equal(adapters["adapters.crd.labels"], DATASET.samples.labels), "every sample was shown"
        lengths = adapters["adapters.crd.rows"].norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    save_checkpoint(tmp_path / "student", model, card)
    saved, _ = load_checkpoint(tmp_path / "student")
    assert saved.state_dict().keys() == new_model("resnet8", DATASET, 0).state_dict().keys()


def test_adapters_are_trained_and_are_not_part_of_the_student(hint: None, teacher: Path, tmp_path: Path) -> None:
    chosen = settings("hint")
    model, _, card, adapters = run(chosen, teacher, tmp_path / "run")
    assert set(adapters) == {"adapters.hint.weight", "adapters.hint.bias"}
    fresh = seeded(
        lambda: Objective(chosen.terms, {"pooled": torch.Size((64,))}, {"pooled": torch.Size((64,))}), seed=0
    ).state_dict()
    assert all(not torch.equal(adapters[key], fresh[key]) for key in adapters), "the optimiser steps them"
    save_checkpoint(tmp_path / "student", model, card)
    saved, _ = load_checkpoint(tmp_path / "student")
    assert saved.state_dict().keys() == new_model("resnet8", DATASET, 0).state_dict().keys()


def test_adapters_leave_the_students_start_and_the_random_state_as_they_were(hint: None) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (
        seeded(lambda: Objective(settings("hint").terms, {"pooled": (8,)}, {"pooled": (4,)}), seed=2)  # type: ignore[dict-item]
        for _ in range(2)
    )
    assert same(first.state_dict(), again.state_dict())
    assert torch.equal(torch.rand(3), expected)


def test_a_live_teachers_logits_are_the_same_with_and_without_features(teacher: Path, tmp_path: Path) -> None:
    """With a feature term of weight near zero, the student's weights are those of kd alone up to rounding."""
    plain, _, _, _ = run(settings("kd"), teacher, tmp_path / "kd")
    beside, _, _, _ = run(settings("kd+at", at={"weight": 1e-30}), teacher, tmp_path / "at")
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(beside.state_dict()[key], value, rtol=1e-4, atol=1e-5)
