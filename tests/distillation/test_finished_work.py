"""Finished work is kept for the settings that it was made from, and is refused for others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import enter
from prepkd.data.prepared.file import load_split
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


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cache__encoding": "u8"}, "inputs.teacher.large.encoding"),
        ({"cache__seed": 1}, "inputs.plan_fingerprint"),
        ({"cache__views": 2}, "inputs.plan_fingerprint"),
        ({"augment_strong": "[erase]"}, "inputs.plan_fingerprint"),
        ({"prepare__val_fraction": 0.5}, "inputs.split_fingerprint"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else None,
)
def test_students_of_other_views_or_data_are_not_tabulated(project: Path, changes: dict[str, Any], field: str) -> None:
    """Their figures would stand beside those of students that saw something else; the test set is the same.

    A strong view is part of the plan, also for methods of one view, as for `distill`.
    """
    if "prepare__val_fraction" in changes:
        labels = load_split(project / "data/digits.h5", "test").fingerprint
        prepkd("prepare", "--replace", **changes)
        assert load_split(project / "data/digits.h5", "test").fingerprint == labels
    run = "results/compare/runs/large/convnet4/kd.safetensors"
    assert f"{run}: {field} is " in prepkd("compare", code=2, **changes)
    if "prepare__val_fraction" not in changes:  # `evaluate` names the whole file first
        assert f"models/student/seed0: {field} is " in prepkd("evaluate", code=2, **changes)


def test_students_of_a_live_teacher_with_other_settings_are_not_tabulated(project: Path) -> None:
    live = {"distill__source": "online"}
    prepkd("compare", "--run", "kd", "--replace", **live)
    prepkd("compare", **live)
    for changes, field in (({"cache__encoding": "u8"}, "encoding"), ({"cache__precision": "bf16"}, "precision")):
        said = prepkd("compare", code=2, **live, **changes)
        assert f"kd.safetensors: inputs.teacher.large.cache.{field} is " in said and "; cache changed; run `" in said


def test_students_without_a_teacher_need_no_encoding(project: Path) -> None:
    """`topk` keeps 16 logits by default; digits have ten classes."""
    changes = {"compare__runs": "[ce]", "cache__encoding": "topk"}
    prepkd("compare", "--run", "ce", **changes)
    prepkd("compare", **changes)


def test_a_finished_run_of_other_views_is_not_replaced_unasked(project: Path) -> None:
    """Not even that of `ce`, which no store tells from others; the message names the one input that differs."""
    changes = {"compare__runs": "[ce]"}
    prepkd("compare", "--run", "ce", **changes)
    for how in ([], ["--jobs", "1"]):
        said = prepkd("compare", "--run", "ce", *how, code=2, **changes, augment="[{crop: {padding: 2}}]")
        assert "ce.safetensors: holds a finished run: inputs.plan_fingerprint is " in said
    prepkd("cache-logits", "large", "--replace", cache__encoding="u8")
    said = prepkd("compare", "--run", "kd", code=2, cache__encoding="u8")
    assert "kd.safetensors: holds a finished run: inputs.teacher.large.encoding is " in said


def test_a_teacher_that_was_evaluated_at_another_size_is_not_replaced_unasked(project: Path) -> None:
    """Its own augment is unchanged; held-out images have the size of the project's."""
    own = {"teachers__large__augment": "[{resized-crop: {size: 8}}]"}
    prepkd("train-teacher", "large", "--replace", **own)
    smaller = own | {"augment": "[{resized-crop: {size: 6}}]", "cache__views": 2}
    said = prepkd("train-teacher", "large", code=2, **smaller)
    assert "models/teachers/large: holds a finished teacher: evaluation.height is 8, expected 6; " in said, said


def test_a_student_without_finite_logits_is_no_result(project: Path) -> None:
    """The loss is that before the update, so only the logits show the fault of the last update."""
    changes = {"distill__lr": 1e30, "distill__schedule": "cosine", "distill__batch_size": 200}
    for command in (["distill"], ["compare", "--run", "kd"]):
        assert "the trained model's logits on held-out images are not finite; lower lr (1e+30)" in prepkd(
            *command, "--replace", code=2, **changes
        )
    path = project / "results/compare/runs/large/convnet4/kd.safetensors"
    found = read_results(path, "")
    found.logits[1][3, 2] = torch.nan
    write_results(path, found.logits, found.made_from)
    assert f"{path.relative_to(project)}, seed 1: its logits are not finite for 1 of " in prepkd("compare", code=2)


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
