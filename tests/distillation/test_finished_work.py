"""Finished work is kept for the settings that it was made from, and is refused for others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import enter
from prepkd.distillation.finished_students import refuse_other_students
from prepkd.distillation.student_settings import WITHOUT_EFFECT
from prepkd.errors import InputError
from prepkd.models.checkpoint import write_card
from prepkd.project.params import load_params
from prepkd.training.predictions import read_results, write_results
from whole_project import prepkd


@pytest.fixture
def project(whole_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(shutil.copytree(whole_project, tmp_path / "project"), monkeypatch)


def test_a_run_with_more_seeds_trains_the_new_ones_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds become five, then six; the output is removed before, as DVC does. Another ka.eps is the same run of `kd`."""
    from prepkd.distillation import student

    trained: list[str] = []
    train = student.train

    def watched(*given: Any, **named: Any) -> Any:
        trained.append("resumed" if named["checkpoint"].exists() else "trained")
        return train(*given, **named)

    monkeypatch.setattr(student, "train", watched)
    path = project / "results/compare/runs/large/convnet4/kd.safetensors"
    before = read_results(path, "")
    for changes, expected in (
        ({"distill__seeds": 5}, [*["resumed"] * 2, *["trained"] * 3]),
        ({"distill__seeds": 6}, [*["resumed"] * 5, "trained"]),
        ({"distill__ka__eps": 0.3}, ["resumed", "resumed"]),
        ({"distill__kd__tau": 3.0}, ["trained", "trained"]),
    ):
        path.unlink()
        prepkd("compare", "--run", "kd", **changes)
        assert trained == expected
        trained.clear()
        after = read_results(path, "").logits
        assert torch.equal(after[1], before.logits[1]) == ("distill__kd__tau" not in changes)
        prepkd("compare", **changes)
    # `distill` takes over the comparison's students of the same settings.
    prepkd("distill")
    assert trained == ["resumed", "resumed"]


@pytest.mark.parametrize("swap", [{"seed1": "seed9"}, {"seed0": "seed1", "seed1": "seed0"}], ids=["renamed", "swapped"])
def test_a_student_of_another_seed_is_not_tabulated(project: Path, swap: dict[str, str]) -> None:
    """A student in the folder of another seed is refused by `evaluate`, and by `distill` as finished work of that seed."""
    for root in (project / "models/student", project / "results/training"):
        for name in swap:
            (root / name).rename(root / f"{name}.aside")
        for name, new in swap.items():
            (root / f"{name}.aside").rename(root / new)
    seeds = sorted(int(path.name[4:]) for path in (project / "models/student").iterdir())
    text = prepkd("evaluate", code=2, distill__seeds=seeds)
    assert f"models/student/seed{seeds[-1] if len(swap) == 1 else 0}: seed is 1, expected " in text
    text = prepkd("distill", code=2, distill__seeds=seeds)
    assert ": holds a finished student: seed is " in text and "--replace replaces it" in text


SAME = {
    "ka-ps": [{"ka__eps": 0.3, "dtd__tau_0": 5}],
    "dtd-flsw": [{"dtd__cwsm__beta": 0.3}, {"dtd__flsw__beta": 0.3}],
    "kd": [
        {"ce_weight": 0.1, "kd_weight": 0.9},
        {"teachers": "[large]"},
        {"adamw__eps": 1e-6},
        {"lr_decay": 0.3, "schedule": "one-cycle"},
        {"checkpoint_every": 3},
        {"kd__tau": 8},
    ],
}


@pytest.mark.parametrize("method", SAME)
def test_finished_work_is_that_of_the_settings_which_it_uses(
    method: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of unused settings keep finished work; a used one, the last of the lists of dtd-flsw and kd, refuses it."""
    base = {"distill__method": method, "distill__schedule": "one-cycle"}
    given = load_params(project / "params.yaml", [f"{k.replace('__', '.')}={v}" for k, v in base.items()]).distill
    inputs = {"teacher": {}}
    (project / "seed0").mkdir()
    (project / "seed0/model.json").write_text(
        json.dumps({"training": given.model_dump(mode="json"), "seed": 0, "inputs": {}})
    )
    for changes in SAME[method]:
        options = base | {f"distill__{key}": value for key, value in changes.items()}
        other = load_params(
            project / "params.yaml", [f"{k.replace('__', '.')}={v}" for k, v in options.items()]
        ).distill
        if changes is SAME[method][-1] and method != "ka-ps":
            with pytest.raises(InputError, match=r"holds a finished student: training.* --replace replaces it"):
                refuse_other_students(project, other, inputs)
            continue
        refuse_other_students(project, other, inputs)
        assert other.used(but=WITHOUT_EFFECT) == given.used(but=WITHOUT_EFFECT), "it would be trained again"


def test_a_finished_teacher_is_that_of_the_settings_which_it_uses(project: Path) -> None:
    large = {"teachers__large__adamw__eps": 1e-6, "teachers__large__evaluate_every": 2}
    prepkd("train-teacher", "large", **large, teachers__large__checkpoint_every=3)
    text = prepkd("train-teacher", "large", code=2, teachers__large__momentum=0.5)
    assert "training.momentum is 0.9, expected 0.5; --replace replaces it" in text


def test_settings_of_another_version_are_other_settings(project: Path) -> None:
    path = project / "models/teachers/large/model.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"training": card["training"] | {"old": 1}}))
    assert "holds a finished teacher: training" in (text := prepkd("train-teacher", "large", code=2))
    assert text.rstrip().endswith("--replace replaces it")


LATER = {"accumulate", "adamw", "clip_grad_norm", "compile", "early_stop", "ema", "evaluate_every", "optimizer"} | {
    "preprocessing",
    "warmup_epochs",
    "weights",
    "weights_key",
}


def test_what_was_trained_before_a_setting_came_has_its_default(project: Path) -> None:
    """Students and runs written by version 0.1.0 count as trained with the defaults of later settings."""
    for path in project.glob("models/student/*/model.json"):
        card = json.loads(path.read_text())
        card["training"] = {key: value for key, value in card["training"].items() if key not in LATER}
        write_card(path.parent, card)
    path = project / "results/compare/runs/large/convnet4/kd.safetensors"
    results = read_results(path, "")
    old = {key: value for key, value in results.made_from["training"].items() if key not in LATER}
    write_results(path, results.logits, results.made_from | {"training": old})
    prepkd("evaluate")
    prepkd("compare")
    for command in ("evaluate", "compare"):
        text = prepkd(command, code=2, distill__optimizer="adamw")
        assert "training.optimizer is sgd, expected adamw; run `prepkd " in text
