"""Every stage refuses files that do not belong together, naming the field and both values, and writes nothing."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
from commands import ROOT, enter
from prepkd.errors import InputError
from prepkd.project.params import load_params
from prepkd.store import LogitStore
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.finished_students import refuse_other_students
from prepkd.training.predictions import read_results, write_results
from prepkd.training.student_settings import WITHOUT_EFFECT

SETTINGS = dict(
    prepare__subset=12,
    teachers__large__model="convnet4",
    teachers__large__epochs=1,
    distill__student="convnet4",
    distill__epochs=1,
    distill__seeds=2,
    compare__runs="[kd]",
    compare__students="[convnet4]",
)
prepkd = partial(commands.prepkd, **SETTINGS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every stage has run."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"], ["distill"], ["evaluate"]):
            prepkd(*stage)
        prepkd("compare", "--run", "kd")
        prepkd("compare")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(shutil.copytree(finished, tmp_path / "project"), monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "scratch" not in p.parts}


def retrained(**changes: object) -> None:
    prepkd("train-teacher", "large", "--replace", teachers__large__seed=5, **changes)


def prepared(**changes: object) -> None:
    prepkd("prepare", "--replace", **changes)


def card(key: str, value: object) -> Callable[[], None]:
    def edit() -> None:
        path = Path("models/teachers/large/model.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return edit


def earlier_students() -> None:
    for path in Path("models/student").glob("*/model.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"training_version": 2}))


def earlier_run() -> None:
    """As versions wrote it that did not name themselves."""
    path = Path("results/compare/runs/large/convnet4/kd.safetensors")
    results = read_results(path, "")
    made_from = {key: value for key, value in results.made_from.items() if key != "training_version"}
    write_results(path, results.logits, made_from)


def test_without_the_teacher_its_agreement_is_left_out_and_that_is_said(project: Path) -> None:
    whole = json.loads(Path("results/metrics.json").read_text())
    shutil.rmtree("models/teachers")
    said = prepkd("evaluate")
    assert "agreement and genetic errors left out: no models/teachers/large" in " ".join(said.split())
    found = json.loads(Path("results/metrics.json").read_text())
    left_out = {"agreement", "genetic_errors"}
    assert left_out <= whole.keys() and found.keys() == whole.keys() - left_out
    assert {key: found[key] for key in found.keys() - {"teacher"}} == {
        key: value for key, value in whole.items() if key not in left_out | {"teacher"}
    }
    assert found["teacher"] == {"training_view_error": whole["teacher"]["training_view_error"]}


def test_without_the_teacher_the_students_must_be_the_stores(project: Path) -> None:
    retrained()
    prepkd("cache-logits", "large", "--replace")
    shutil.rmtree("models/teachers")
    before = contents(project)
    said = prepkd("evaluate", code=2)
    assert said.startswith("error: models/student/seed0: inputs.teacher.large is ") and "run `prepkd distill`" in said
    assert contents(project) == before


def test_a_teacher_of_which_a_part_is_missing_is_none(project: Path) -> None:
    Path("models/teachers/large/test_logits.safetensors").unlink()
    said = prepkd("evaluate", code=2)
    assert "models/teachers/large/test_logits.safetensors: no such file; run `prepkd train-teacher large`" in said


def flip(path: Path) -> None:
    """Change one bit of the last number."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


CACHE = ["cache-logits", "large"]
CASES: dict[str, tuple[Callable[[], Any], list[str], dict[str, object], str]] = {
    "cache: a teacher of other classes": (card("num_classes", 8), CACHE, {}, "2 of another shape"),
    "cache: a teacher of another split": (
        lambda: prepared(prepare__val_fraction=0.5),
        CACHE,
        {},
        "models/teachers/large: inputs.split_fingerprint is ",
    ),
    "distill: another split": (
        lambda: prepared(prepare__seed=3),
        ["distill"],
        {},
        "data/logits/large.zarr: dataset.split_fingerprint is ",
    ),
    "distill: another plan": (lambda: None, ["distill"], {"cache__views": 2}, "views.views is all, expected 2; change"),
    "distill: another recipe": (
        lambda: None,
        ["distill"],
        {"augment": "[{crop: {padding: 2}}]"},
        "views.recipe is [{'crop': {'padding': 1}}], expected [{'crop': {'padding': 2}}]; change",
    ),
    "distill: another encoding": (
        lambda: None,
        ["distill"],
        {"cache__encoding": "u8"},
        "encoding.name is f16, expected u8",
    ),
    "distill: another precision": (
        lambda: None,
        ["distill"],
        {"cache__precision": "bf16"},
        "precision.arithmetic is ieee, expected bf16; change the settings, or run `prepkd cache-logits large` again",
    ),
    "distill: another batch": (
        lambda: None,
        ["distill"],
        {"cache__batch_size": 100},
        "precision.batch_size is 256, expected 100",
    ),
    "distill: a store under another teacher's name": (
        lambda: shutil.copytree("data/logits/large.zarr", "data/logits/small.zarr"),
        ["distill", "--teacher", "small"],
        {},
        "data/logits/small.zarr: teacher.name is large, expected small",
    ),
    "distill: one store as two teachers": (
        lambda: shutil.copytree("data/logits/large.zarr", "data/logits/small.zarr"),
        ["distill"],
        {"distill__teachers": "[large,small]"},
        "data/logits/small.zarr: teacher.name is large, expected small",
    ),
    "distill: the teacher retrained": (
        retrained,
        ["distill"],
        {},
        "data/logits/large.zarr against models/teachers/large: teacher.weights_fingerprint is ",
    ),
    "online: a teacher of another split": (
        lambda: prepared(prepare__seed=3),
        ["distill", "--source", "online"],
        {},
        "models/teachers/large: inputs.split_fingerprint is ",
    ),
    "evaluate: the teacher retrained": (retrained, ["evaluate"], {}, "student/seed0: inputs.teacher.large is "),
    "evaluate: other settings": (
        lambda: None,
        ["evaluate"],
        {"distill__kd__tau": 7},
        "models/student/seed0: training.kd is {'tau': 2.0}, expected {'tau': 7.0}; run `prepkd distill`",
    ),
    "evaluate: another version of training": (
        earlier_students,
        ["evaluate"],
        {},
        f"models/student/seed0: training_version is 2, expected {TRAINING_VERSION}; run `prepkd distill` again",
    ),
    "evaluate: another student": (
        lambda: None,
        ["evaluate"],
        {"distill__student": "convnet8"},
        "training.student is convnet4, expected convnet8",
    ),
    "evaluate: other data": (lambda: prepared(prepare__seed=3), ["evaluate"], {}, "inputs.dataset_fingerprint is "),
    "compare: other settings": (
        lambda: None,
        ["compare"],
        {"distill__epochs": 7},
        "results/compare/runs/large/convnet4/kd.safetensors: training.epochs is 1, expected 7; run `prepkd compare --run 'kd'`",
    ),
    "compare: another version of training": (
        earlier_run,
        ["compare"],
        {},
        f"training_version is None, expected {TRAINING_VERSION}; run `prepkd compare --run 'kd'` again",
    ),
    "compare: more seeds": (
        lambda: None,
        ["compare"],
        {"distill__seeds": 9},
        "kd.safetensors: holds no seed 2, only 0, 1; run `prepkd compare --run 'kd'`",
    ),
    "compare: a damaged run": (
        lambda: flip(Path("results/compare/runs/large/convnet4/kd.safetensors")),
        ["compare"],
        {},
        "kd.safetensors: damaged: its sha256 is ",
    ),
    "compare: damaged answers of the teacher": (
        lambda: flip(Path("models/teachers/large/test_logits.safetensors")),
        ["compare"],
        {},
        "models/teachers/large/test_logits.safetensors: damaged: its sha256 is ",
    ),
    "evaluate: damaged answers of the teacher": (
        lambda: flip(Path("models/teachers/large/test_logits.safetensors")),
        ["evaluate"],
        {},
        "models/teachers/large/test_logits.safetensors: damaged: its sha256 is ",
    ),
    "compare: the teacher retrained": (retrained, ["compare"], {}, "kd.safetensors: inputs.teacher.large is "),
    "compare: another test set": (
        lambda: prepared(prepare__subset=11),
        ["compare"],
        {},
        "test_logits.safetensors: test_fingerprint is ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_do_not_belong_together_are_refused(project: Path, case: str) -> None:
    spoil, command, changes, expected = CASES[case]
    spoil()
    before = contents(project)
    text = prepkd(*command, code=2, **changes)
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and lines[0] == text.splitlines()[-1], text
    assert expected in lines[0], lines[0]
    assert contents(project) == before


def test_what_belongs_together_is_accepted_again(project: Path) -> None:
    """The checks above do not refuse everything."""
    retrained()
    asked = ["--replace"]
    for command in (CACHE + asked, ["distill", *asked], ["evaluate"], ["compare", "--run", "kd", *asked], ["compare"]):
        prepkd(*command, teachers__large__seed=5)


def test_a_run_with_more_seeds_trains_the_new_ones_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From two to three, as DVC does it: the old output is removed first. `kd` with another ka.eps is the same run."""
    from prepkd.training import student

    trained: list[str] = []
    train = student.train

    def watched(*given: Any, **named: Any) -> Any:
        trained.append("resumed" if named["checkpoint"].exists() else "trained")
        return train(*given, **named)

    monkeypatch.setattr(student, "train", watched)
    path = project / "results/compare/runs/large/convnet4/kd.safetensors"
    before = read_results(path, "")
    for changes, expected in (
        ({"distill__seeds": 3}, ["resumed", "resumed", "trained"]),
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
    # Students of the same settings are the same students, whichever command trained them.
    prepkd("distill")
    assert trained == ["resumed", "resumed"]


def test_a_pairs_runs_depend_on_the_teachers_that_they_name(project: Path) -> None:
    """DVC's `run` depends on the pair's lesson: with `kd,teacher=small` also a new store of `small` is news."""
    prepkd("gather", "--teachers", "large")
    lesson = Path("data/lessons/large.json")
    assert list(json.loads(lesson.read_text())["teachers"]) == ["large"]
    named = "[kd, 'kd,teacher=small', 'kd,teachers=[large,small]']"
    assert "data/logits/small.zarr: " in prepkd("gather", "--teachers", "large", code=2, compare__runs=named)
    for stage in ("train-teacher", "cache-logits"):
        prepkd(stage, "small", teachers__small__epochs=1)
    prepkd("gather", "--teachers", "large", compare__runs=named)
    assert list(json.loads(lesson.read_text())["teachers"]) == ["large", "small"]


@pytest.mark.parametrize("swap", [{"seed1": "seed9"}, {"seed0": "seed1", "seed1": "seed0"}], ids=["renamed", "swapped"])
def test_a_student_of_another_seed_is_not_tabulated(project: Path, swap: dict[str, str]) -> None:
    """Neither is it kept as finished work of the seed whose name it has."""
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
    """The last of each list is used."""
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
    """Students and a run of the comparison as version 0.1.0 wrote them, and settings that are not the defaults."""
    for path in project.glob("models/student/*/model.json"):
        card = json.loads(path.read_text())
        card["training"] = {key: value for key, value in card["training"].items() if key not in LATER}
        path.write_text(json.dumps(card))
    path = project / "results/compare/runs/large/convnet4/kd.safetensors"
    results = read_results(path, "")
    old = {key: value for key, value in results.made_from["training"].items() if key not in LATER}
    write_results(path, results.logits, results.made_from | {"training": old})
    prepkd("evaluate")
    prepkd("compare")
    for command in ("evaluate", "compare"):
        text = prepkd(command, code=2, distill__optimizer="adamw")
        assert "training.optimizer is sgd, expected adamw; run `prepkd " in text


def test_a_teacher_whose_output_has_other_classes_writes_no_store(project: Path) -> None:
    """Its card and its weights agree with each other, but not with the data."""
    for name in ("num_classes", "in_channels"):
        shutil.rmtree(project / "models/teachers/large")
        prepkd("train-teacher", "large")
        path = project / "models/teachers/large/model.json"
        old = json.loads(path.read_text())
        assert {"num_classes": 10, "in_channels": 1}[name] == old[name]
    from prepkd.data.samples.preprocessing import Preprocessing
    from prepkd.models import build_model, save_checkpoint
    from prepkd.models.checkpoint import Normalised

    for classes, channels, field in ((8, 1, "num_classes is 8, expected 10"), (10, 3, "in_channels is 3, expected 1")):
        model = Normalised(
            build_model("convnet4", classes, in_channels=channels), Preprocessing((0.5,) * channels, (0.5,) * channels)
        )
        new = old | {"num_classes": classes, "in_channels": channels}
        save_checkpoint(project / "models/teachers/large", model, new)
        for command in (CACHE, ["distill", "--source", "online"]):
            assert field in prepkd(*command, code=2)


def test_the_store_says_what_it_was_made_from(finished: Path) -> None:
    store = LogitStore.open(finished / "data/logits/large.zarr")
    sections = ("dataset", "encoding", "pixels", "precision", "split", "teacher", "views")
    assert tuple(sorted(store.attributes.fingerprints)) == sections
    other = store.attributes.model_dump()
    assert json.loads(json.dumps(other)) == other
    other["fingerprints"]["teacher"] = "0" * 64
    assert other != store.attributes.model_dump()


def test_a_chunk_of_another_shape_is_refused(tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(ROOT / "tests/store"))
    import store_writing
    import torch

    writer = store_writing.open_writer(tmp_path / "store")
    for rows, classes in ((8, 7), (8, 4), (7, 5), (1, 5)):
        wrong = {"logits": torch.zeros(rows, classes).half(), "row_max": torch.zeros(rows)}
        with pytest.raises(InputError, match=r"has shape \(.*\); expected \(8"):
            writer.write(0, 0, wrong)
    assert not writer.done(0, 0)
