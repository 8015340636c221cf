"""Every stage refuses files that do not belong together, naming the field and both values, and writes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import enter
from prepkd.models.checkpoint import write_card
from prepkd.store import LogitStore
from prepkd.training.checkpoints import TRAINING_VERSION
from prepkd.training.predictions import read_results, write_results
from whole_project import prepkd


@pytest.fixture
def project(whole_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(shutil.copytree(whole_project, tmp_path / "project"), monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "scratch" not in p.parts}


def retrained(**changes: object) -> None:
    prepkd("train-teacher", "large", "--replace", teachers__large__seed=5, **changes)


def prepared(**changes: object) -> None:
    prepkd("prepare", "--replace", **changes)


def card(key: str, value: object) -> Callable[[], None]:
    def edit() -> None:
        path = Path("models/teachers/large/model.json")
        write_card(path.parent, json.loads(path.read_text()) | {key: value})

    return edit


def earlier_students() -> None:
    for path in Path("models/student").glob("*/model.json"):
        write_card(path.parent, json.loads(path.read_text()) | {"training_version": 2})


def rewrite(folder: str, old: str, new: str) -> Callable[[], None]:
    """Return a function that changes a few bytes of a card, as a bad disk or an editor would."""

    def edit() -> None:
        path = Path(folder) / "model.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def earlier_run() -> None:
    """Rewrite the run without its training version, as early versions wrote it."""
    path = Path("results/compare/runs/large/convnet4/kd.safetensors")
    results = read_results(path, "")
    made_from = {key: value for key, value in results.made_from.items() if key != "training_version"}
    write_results(path, results.logits, made_from)


def test_without_the_teacher_its_agreement_is_left_out_and_that_is_said(project: Path) -> None:
    whole = json.loads(Path("results/details.json").read_text())
    assert "genetic" in json.loads(Path("results/metrics.json").read_text())
    shutil.rmtree("models/teachers")
    said = prepkd("evaluate")
    assert "agreement and genetic errors left out: no models/teachers/large" in " ".join(said.split())
    found = json.loads(Path("results/details.json").read_text())
    assert "genetic" not in json.loads(Path("results/metrics.json").read_text())
    left_out = {"agreement", "genetic_errors"}
    assert left_out <= whole.keys() and found.keys() == whole.keys() - left_out
    others = found.keys() - {"teacher", "seeds", "classes"}
    assert {key: found[key] for key in others} == {key: whole[key] for key in others}
    for seed, row in found["seeds"].items():
        assert row == {key: value for key, value in whole["seeds"][seed].items() if key not in left_out}
    assert [row["top1"] for row in found["classes"]] == [row["top1"] for row in whole["classes"]]
    assert all("teacher_top1" in row for row in whole["classes"])
    assert not any("teacher_top1" in row for row in found["classes"])
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
    """Flip one bit of the file's last byte."""
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
        "models/student/seed0: training.kd.tau is 2.0, expected 7.0; run `prepkd distill`",
    ),
    "evaluate: another version of training": (
        earlier_students,
        ["evaluate"],
        {},
        f"models/student/seed0: training_version is 2, expected {TRAINING_VERSION}; run `prepkd distill` again",
    ),
    "evaluate: a digit of a student's preprocessing": (
        rewrite("models/student/seed0", '"std": [\n      0.', '"std": [\n      1.'),
        ["evaluate"],
        {},
        "models/student/seed0/model.json: damaged: its sha256 is ",
    ),
    "cache: a digit of the teacher's preprocessing": (
        rewrite("models/teachers/large", '"std": [\n      0.', '"std": [\n      1.'),
        CACHE,
        {},
        "models/teachers/large/model.json: damaged: its sha256 is ",
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
    """After each stage ran again for a new teacher, every command accepts the files."""
    retrained()
    asked = ["--replace"]
    for command in (CACHE + asked, ["distill", *asked], ["evaluate"], ["compare", "--run", "kd", *asked], ["compare"]):
        prepkd(*command, teachers__large__seed=5)


def test_a_teacher_of_other_settings_is_used_with_a_note(project: Path) -> None:
    """Only what training reads counts; the same holds for `cache-logits` of a store that is finished."""
    epochs = json.loads(Path("models/teachers/large/model.json").read_text())["training"]["epochs"]
    text = prepkd(*CACHE, teachers__large__epochs=epochs + 3)
    assert (
        f"note: models/teachers/large: training.epochs is {epochs}, expected {epochs + 3}; it is used as it is" in text
    )
    assert "note:" not in prepkd(*CACHE, teachers__large__checkpoint_every=9)


def test_a_run_depends_on_its_own_teachers(project: Path) -> None:
    """A run's lesson, on which DVC's `run` depends, names the stores of that run: its new store leaves the others alone."""
    prepkd("gather", "--teachers", "large")
    lessons = Path("data/lessons/large")
    kd = (lessons / "kd.json").read_bytes()
    named = "[kd, 'kd,teacher=small', 'kd,teachers=[large,small]']"
    assert "data/logits/small.zarr: " in prepkd("gather", "--teachers", "large", code=2, compare__runs=named)
    assert [path.name for path in lessons.iterdir()] == ["kd.json"], "a refused command changes nothing"
    for stage in ("train-teacher", "cache-logits"):
        prepkd(stage, "small", teachers__small__epochs=1)
    prepkd("gather", "--teachers", "large", compare__runs=named)
    found = {path.stem: list(json.loads(path.read_text())["teachers"]) for path in lessons.iterdir()}
    assert found == {"kd": ["large"], "kd,teacher=small": ["small"], "kd,teachers=[large,small]": ["large", "small"]}
    assert (lessons / "kd.json").read_bytes() == kd
    prepkd("gather", "--teachers", "large", compare__runs="[ce]")
    assert [path.name for path in lessons.iterdir()] == ["ce.json"], "runs that left the comparison"
    assert json.loads((lessons / "ce.json").read_text()) == {"teachers": {}}, "a method that uses no store"
    prepkd("gather", "--teachers", "large")
    for outside in ("../../outside", "large+/tmp/outside"):
        assert "expected a key of teachers" in prepkd("gather", "--teachers", outside, code=2)
    assert not (project.parent / "outside").exists() and not Path("/tmp/outside").exists()


def test_a_teacher_whose_output_has_other_classes_writes_no_store(project: Path) -> None:
    """A teacher whose card and weights agree with each other, but not with the data, is refused."""
    for name in ("num_classes", "in_channels"):
        shutil.rmtree(project / "models/teachers/large")
        prepkd("train-teacher", "large")
        path = project / "models/teachers/large/model.json"
        old = json.loads(path.read_text())
        assert {"num_classes": 10, "in_channels": 1}[name] == old[name]
    from prepkd.data.samples.preprocessing import Preprocessing
    from prepkd.models import build_model, save_checkpoint
    from prepkd.models.normalised import Normalised

    for classes, channels, field in ((8, 1, "num_classes is 8, expected 10"), (10, 3, "in_channels is 3, expected 1")):
        model = Normalised(
            build_model("convnet4", classes, in_channels=channels), Preprocessing((0.5,) * channels, (0.5,) * channels)
        )
        new = old | {"num_classes": classes, "in_channels": channels}
        save_checkpoint(project / "models/teachers/large", model, new)
        for command in (CACHE, ["distill", "--source", "online"]):
            assert field in prepkd(*command, code=2)


def test_the_store_says_what_it_was_made_from(whole_project: Path) -> None:
    store = LogitStore.open(whole_project / "data/logits/large.zarr")
    sections = ("dataset", "encoding", "pixels", "precision", "split", "teacher", "views")
    assert tuple(sorted(store.attributes.fingerprints)) == sections
    other = store.attributes.model_dump()
    assert json.loads(json.dumps(other)) == other
    other["fingerprints"]["teacher"] = "0" * 64
    assert other != store.attributes.model_dump()


@pytest.mark.parametrize("taught", ["encoding", 5, ["large"], {"large": "encoding"}, {"large": ["cache"]}], ids=str)
@pytest.mark.parametrize("folder", ["models/teachers", "models/gone"], ids=["with the teacher", "from the store"])
def test_what_a_file_says_of_its_teachers_is_checked_where_it_is_read(
    taught: object, folder: str, project: Path
) -> None:
    """The checksums are right: they are no secret."""
    student, run = Path("models/student/seed0"), Path("results/compare/runs/large/convnet4/kd.safetensors")
    made = json.loads((student / "model.json").read_text())
    write_card(student, made | {"inputs": made["inputs"] | {"teacher": taught}})
    found = read_results(run, "")
    write_results(run, found.logits, found.made_from | {"teacher": taught})
    Path("models/teachers").rename(folder)
    for command, where in (("evaluate", student / "model.json"), ("compare", run)):
        said = prepkd(command, code=2)
        assert said.startswith(f"error: {where}: inputs.teacher is ") and said.count("\n") == 1, said


@pytest.mark.parametrize("inputs", [5, "teacher", [1]])
def test_a_card_without_readable_inputs_is_no_finished_teacher(inputs: object, project: Path) -> None:
    path = Path("models/teachers/large/model.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": inputs}))
    prepkd("train-teacher", "large")
    assert isinstance(json.loads(path.read_text())["inputs"], dict)
