"""Generations: a distilled teacher equals a student of the same settings bit for bit, and then serves as any teacher."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commands import enter, prepkd
from prepkd.distillation.generation_settings import Generation
from prepkd.methods.objective import Objective
from prepkd.models.checkpoint import write_card
from prepkd.models.new import new_model
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.stages._dataset import read_dataset
from prepkd.stages._options import read_params
from prepkd.stages._progress import TrainingProgress
from prepkd.training import loop
from safetensors.torch import load_file

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, lr: 0.05, precision: float32}}
generations:
  one: &one
    {teacher: large, student: convnet4, ce_weight: 0.0, kd: {tau: 1.0}, epochs: 3, lr: 0.1, batch_size: 32,
     precision: float32, seed: 1}
  two: {<<: *one, teacher: one, seed: 2}
cache: {views: 3, batch_size: 32, chunk: 64}
distill: {teacher: two, student: convnet4, epochs: 1, seeds: [0], precision: float32}
compare: {runs: [kd], teachers: [two], students: [convnet4]}
"""
SAME = {"teacher": "large", "ce_weight": 0.0, "kd.tau": 1.0, "epochs": 3, "lr": 0.1, "batch_size": 32, "seeds": "[1]"}
CHAIN = ["prepare", "train-teacher large", "cache-logits large", "train-generation one", "cache-logits one"]
CHAIN += ["train-generation two", "cache-logits two"]
TEACHERS = Path("models/teachers")
ONE = TEACHERS / "one"


def card(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return content


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a chain of two generations."""
    folder = tmp_path_factory.mktemp("generations")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Path("params.yaml").write_text(PARAMS)
        for command in CHAIN:
            prepkd(*command.split())
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` without scratch, so that no training resumes from finished work."""
    return enter(shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns("scratch")), monkeypatch)


@pytest.mark.parametrize("source", ["cached", "online"])
def test_a_generation_is_the_student_of_the_same_settings_and_seed(project: Path, source: str) -> None:
    prepkd("distill", **{f"distill.{key}": value for key, value in SAME.items()}, distill__source=source)
    student = Path("models/student/seed1")
    assert (student / "model.safetensors").read_bytes() == (ONE / "model.safetensors").read_bytes()
    prepkd("distill", "--replace", **{f"distill.{key}": value for key, value in (SAME | {"seeds": "[2]"}).items()})
    assert card(Path("models/student/seed2"))["weights_fingerprint"] != card(ONE)["weights_fingerprint"]


def test_a_generation_of_two_views_is_the_student_of_the_same_settings(project: Path) -> None:
    strong = {"augment_strong": "[{crop: {padding: 1}}, erase]"}
    prepkd("cache-logits", "large", "--replace", **strong)
    prepkd("train-generation", "one", "--replace", generations__one__views_per_step=2, **strong)
    prepkd("distill", **{f"distill.{key}": value for key, value in SAME.items()}, distill__views_per_step=2, **strong)
    assert Path("models/student/seed1/model.safetensors").read_bytes() == (ONE / "model.safetensors").read_bytes()


def test_the_live_teacher_is_another_module_and_stays_as_it_is(project: Path) -> None:
    """With a live teacher the student's loss is not zero, as it would be if both were one module."""
    before, cached = card(ONE)["weights_fingerprint"], (Path("models/teachers/two/model.safetensors")).read_bytes()
    shutil.rmtree("models/teachers/two")
    prepkd("train-generation", "two", generations__two__source="online")
    assert card(ONE)["weights_fingerprint"] == before
    assert Path("models/teachers/two/model.safetensors").read_bytes() == cached
    history = pd.read_csv("models/teachers/two/history.csv")
    assert len(history) == 3 and (history["train/kd"] > 1e-4).all()


def test_each_generation_starts_from_new_weights_with_a_new_optimiser(project: Path) -> None:
    """At a vanishing lr a generation ends with the initial weights of its seed, not with its teacher's weights."""
    shutil.rmtree("models/teachers/two")
    prepkd("train-generation", "two", generations__two__lr=1e-30, generations__two__weight_decay=0.0)
    found = load_file("models/teachers/two/model.safetensors")
    dataset = read_dataset(read_params(Path("params.yaml"), []), 3, 0)
    start = new_model("convnet4", dataset, torch_seed(2, Purpose.STUDENT_WEIGHTS.stream())).body.state_dict()
    above = load_file(ONE / "model.safetensors")
    parameters = [name for name in start if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(found[name], start[name], rtol=0, atol=1e-20) for name in parameters)
    assert not any(torch.equal(found[name], above[name]) for name in parameters if found[name].ndim > 1)


def test_nothing_that_is_measured_on_test_reaches_the_next_teacher(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test scores don't select the epoch; public code of teacher assistants takes the best on test."""
    before = (ONE / "model.safetensors").read_bytes()
    figures = iter((0.9, 0.5, 0.1))

    def evaluate(model: torch.nn.Module, held_out: Mapping[str, object]) -> dict[str, float]:
        return {f"{name}/top1": next(figures) for name in held_out}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    shutil.rmtree(ONE)
    prepkd("train-generation", "one")
    assert list(pd.read_csv(ONE / "history.csv")["test/top1"]) == [0.9, 0.5, 0.1]
    assert (ONE / "model.safetensors").read_bytes() == before


def test_killed_it_resumes_with_the_same_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in ONE.iterdir()}
    shutil.rmtree(ONE)
    epochs: list[float] = []

    def note(shown: TrainingProgress, seed: int, row: dict[str, float]) -> None:
        epochs.append(row["epoch"])
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingProgress, "epoch", note)
    assert "run the same command again" in prepkd("train-generation", "one", code=130)
    assert not ONE.exists()
    prepkd("train-generation", "one")
    assert epochs == [0, 1, 0, 1, 2], "the first two are reported again, not trained"
    assert {path.name: path.read_bytes() for path in ONE.iterdir()} == before


def test_the_card_says_from_whom_it_descends(made: Path) -> None:
    folders = {name: made / "models/teachers" / name for name in ("large", "one", "two")}
    cards = {name: card(folder) for name, folder in folders.items()}
    described = {
        name: {key: one[key] for key in ("name", "model", "weights_fingerprint")} for name, one in cards.items()
    }
    assert cards["two"]["distilled_from"] == [described["one"], described["large"]]
    assert cards["one"]["distilled_from"] == [described["large"]] and "distilled_from" not in cards["large"]
    assert list(cards["two"]["inputs"]["teacher"]) == ["one"]
    assert cards["two"]["training"]["seed"] == 2 and cards["two"]["class_names"] == cards["large"]["class_names"]
    assert sorted(path.name for path in folders["two"].iterdir()) == sorted(
        path.name for path in folders["large"].iterdir()
    )


def test_every_command_takes_it_as_a_teacher(project: Path) -> None:
    assert "PASS" in prepkd("verify", "data/logits/two.zarr", "--samples", "64", "--seed", "0")
    chain = " <- ".join(
        f"{name} (convnet4, weights {card(TEACHERS / name)['weights_fingerprint'][:12]})"
        for name in ("two", "one", "large")
    )
    assert f" {chain.partition(' <- ')[2]}" in " ".join(prepkd("inspect", "data/logits/two.zarr").split())
    prepkd("cache-features", "two", cache__features="[pooled]")
    prepkd("gather", "--teachers", "two+large")
    prepkd("gather")
    prepkd("distill")
    assert f"distilled from {chain}" in " ".join(prepkd("inspect", "models/student/seed0").split())
    found = json.loads(prepkd("inspect", "models/teachers/two", "--json"))
    assert [one["name"] for one in found["distilled_from"][0]] == ["one", "large"]
    cached = Path("models/student/seed0/model.safetensors").read_bytes()
    prepkd("distill", "--replace", "--source", "online")
    assert Path("models/student/seed0/model.safetensors").read_bytes() == cached
    prepkd("evaluate")
    assert (
        json.loads(Path("results/details.json").read_text())["teacher"]["top1"]
        == card(Path("models/teachers/two"))["test_top1"]
    )
    prepkd("distill", "--replace", distill__teachers="[one, two]")
    assert list(card(Path("models/student/seed0"))["inputs"]["teacher"]) == ["one", "two"]
    prepkd("compare", "--run", "kd", "--teacher", "one+two")
    prepkd("compare", compare__teachers="[one+two]")
    assert "one+two" in Path("results/compare/table.md").read_text()
    prepkd("methods", "--check", "kd")


def test_what_comes_after_names_the_command_that_makes_it(project: Path) -> None:
    shutil.rmtree("models/teachers/two")
    assert "run `prepkd train-generation two`" in prepkd("cache-logits", "two", "--replace", code=2)
    assert "run `prepkd train-generation two`" in prepkd("distill", "--source", "online", code=2)
    Path("models/teachers/one/test_logits.safetensors").unlink()
    prepkd("distill", "--teacher", "one")
    assert "run `prepkd train-generation one`" in prepkd("evaluate", code=2, distill__teacher="one")


def test_a_teacher_that_was_trained_again_is_another_teacher(project: Path) -> None:
    prepkd("train-teacher", "large", "--replace", teachers__large__seed=5)
    prepkd("cache-logits", "large", "--replace")
    text = prepkd("train-generation", "one", code=2)
    assert (
        "models/teachers/one: holds a finished teacher: inputs.teacher.large.teacher is " in text
        and text.count("\n") == 1
    )
    prepkd("train-generation", "one", "--replace")


def test_a_distilled_teacher_and_one_of_labels_do_not_replace_each_other(project: Path) -> None:
    distilled = card(ONE)
    shutil.rmtree(ONE)
    shutil.copytree("models/teachers/large", ONE)
    damage(ONE, training=distilled["training"])
    assert "inputs.teacher is None, expected {'large'" in prepkd("train-generation", "one", code=2)
    shutil.rmtree(ONE)
    labelled = card(Path("models/teachers/large"))
    shutil.copytree("models/teachers/two", "models/teachers/large", dirs_exist_ok=True)
    damage(Path("models/teachers/large"), training=labelled["training"])
    text = prepkd("train-teacher", "large", code=2)
    assert "holds a finished teacher: inputs.teacher is {'one'" in text and "expected None; --replace" in text


KNOWN = "expected a key of teachers or generations: large, one, two"
NEW = "{teacher: one, student: convnet4, epochs: 1}"
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"generations.one.teacher": "two"}, "generations teach one another in a circle: one <- two <- one"),
    ({"generations.one.teacher": "one"}, "generations teach one another in a circle: one <- one"),
    ({"generations.two.teacher": "ones"}, f"generations.two.teacher is 'ones'; {KNOWN}"),
    ({"generations.large": NEW}, "generations has 'large', which is a key of teachers; expected another name"),
    ({"generations.a/b": NEW}, "generations has the name 'a/b'; expected letters, digits"),
    ({"generations.one.teachers": "[large, two]"}, "unknown key generations.one.teachers; did you mean teacher"),
    ({"generations.one.seeds": "3"}, "unknown key generations.one.seeds; did you mean seed"),
    ({"generations.one.seed": "-1"}, "generations.one.seed is -1; expected >= 0"),
    (
        {"generations.one.method": "ce", "generations.one.ce_weight": "auto"},
        "generations.one: method is ce, which uses no teacher",
    ),
    ({"generations.one.method": "ban"}, "has 'ban', a scheme of `generations` and no term"),
    ({"generations.one.ce_weight": 2.0}, "generations.one: ce_weight is 2 and kd_weight auto is 1 - ce_weight"),
    ({"generations.one.student": "null"}, "generations.one.student is null; expected"),
    ({"generations": "[one]"}, "generations is ['one']; expected keys with settings"),
    ({"generations.one.views_per_step": 2}, "generations.one.views_per_step is 2 and augment_strong is empty"),
    ({"distill.teacher": "three"}, f"distill.teacher is 'three'; {KNOWN}"),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=lambda value: str(value)[:40])
def test_settings_without_a_meaning_are_refused_in_one_line(
    made: Path, changes: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    text = prepkd("train-generation", "one", code=2, **changes)
    assert says in text and text.count("\n") == 1, text


def test_names_of_the_other_kind_are_refused_in_one_line(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    assert "'one' is a key of generations; run `prepkd train-generation one`" in prepkd("train-teacher", "one", code=2)
    text = prepkd("train-generation", "large", code=2)
    assert "generation is 'large'; expected a key of generations: one, two" in text


def test_a_generation_inherits_nothing_from_distill() -> None:
    """A generation has the fields of `distill` with the same defaults and checks, apart from seeds and ensembles."""
    from prepkd.distillation.student_settings import Distill

    assert Generation.model_fields.keys() ^ Distill.model_fields.keys() == {"seed", "seeds", "teachers", "ensemble"}
    for name in Generation.model_fields.keys() & Distill.model_fields.keys():
        ours, theirs = Generation.model_fields[name], Distill.model_fields[name]
        assert (ours.default, ours.annotation, ours.metadata) == (theirs.default, theirs.annotation, theirs.metadata)


def test_a_refinery_that_is_sure_is_cross_entropy_and_else_its_gradient_is_that_of_its_answer() -> None:
    """Label refinery (KL at temperature 1, no labels) against its gradient q - p in float64."""
    settings = Generation.model_validate(
        {"teacher": "a", "student": "convnet4", "epochs": 1, "ce_weight": 0.0, "kd": {"tau": 1.0}}
    )
    objective = Objective(settings.as_student.terms)
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    answer = torch.randn(6, 5, dtype=torch.float64, generator=generator)
    sure = torch.full((6, 5), -1000.0, dtype=torch.float64).scatter(1, (labels[:, None] + 1) % 5, 0.0)
    for teacher in (answer, sure):
        top = teacher.amax(dim=1, keepdim=True)
        given = {"logits": teacher - top, "row_max": top.squeeze(1)}
        loss = objective({"logits": student}, labels, given)["loss"]
        p, q = teacher.softmax(1), student.softmax(1)
        (gradient,) = torch.autograd.grad(loss.sum(), student)
        assert torch.allclose(gradient, (q - p).detach(), atol=1e-12)
        if teacher is sure:
            assert torch.allclose(loss, -q.log().gather(1, (labels[:, None] + 1) % 5).squeeze(1), atol=1e-12)


# Tests of `weights` that name a model folder written by prepkd


@pytest.fixture
def promoted(project: Path) -> Iterator[dict[str, object]]:
    """Settings of a teacher whose weights are a trained student's folder, with its own preprocessing."""
    prepkd("distill", distill__preprocessing="{mean: [0.4], std: [0.2]}")
    shutil.copytree("models/student/seed0", "kept")
    yield {"teachers.kept": "{model: convnet4, weights: kept, epochs: 0}"}


def test_a_students_folder_is_a_teacher(promoted: dict[str, object]) -> None:
    prepkd("train-teacher", "kept", **promoted)
    prepkd("cache-logits", "kept", **promoted)
    ours, theirs = card(Path("models/teachers/kept")), card(Path("kept"))
    for key in ("weights_fingerprint", "preprocessing", "class_names"):
        assert ours[key] == theirs[key]
    assert ours["preprocessing"]["mean"] == [0.4] and ours["weights_from"]["file"] == "kept"
    assert "PASS" in prepkd("verify", "data/logits/kept.zarr", "--samples", "64", "--seed", "0")
    prepkd("distill", "--replace", "--teacher", "kept", **promoted)
    # The folder also serves as initial weights of a generation and of a student.
    prepkd("train-generation", "one", "--replace", generations__one__weights="kept")
    assert card(ONE)["weights_from"]["file"] == "kept" and card(ONE)["preprocessing"]["mean"] == [0.4]
    prepkd("distill", "--replace", distill__weights="kept")
    assert card(Path("models/student/seed0"))["preprocessing"]["mean"] == [0.4]
    # The folder now holds another student.
    shutil.rmtree("kept")
    shutil.copytree("models/student/seed0", "kept")
    assert "kept has changed; run `prepkd train-teacher kept`" in prepkd("cache-logits", "kept", code=2, **promoted)


def damage(folder: Path, **changes: object) -> None:
    """Rewrite the card with changes and a valid checksum."""
    write_card(folder, card(folder) | changes)


FOREIGN: dict[str, tuple[Any, str]] = {
    "no card": (lambda folder: (folder / "model.json").unlink(), "kept/model.json: no such file; weights names a folder"),
    "not JSON": (lambda folder: (folder / "model.json").write_text("{"), "kept/model.json: not JSON"),
    "another format": (lambda folder: damage(folder, format="mine"), "format is 'mine'"),
    "another model": (lambda folder: damage(folder, model="convnet8"), "kept: model is convnet8, expected convnet4"),
    "a module": (lambda folder: damage(folder, model="antigravity_of_a_stranger:factory"), "kept: model is antigravity"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "kept/model.safetensors: no such file"),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        "kept/model.safetensors: not a whole safetensors file",
    ),
    "other weights": (lambda folder: damage(folder, weights_fingerprint="0" * 64), "weights_fingerprint is 000"),
    "other classes": (lambda folder: damage(folder, class_names=["cat"] * 10), "its class 'cat' is none of the data's"),
    "classes in another order": (
        lambda folder: damage(folder, class_names=card(folder)["class_names"][::-1]),
        "10 of 10 classes are in another order",
    ),
    "more classes": (lambda folder: damage(folder, num_classes=11), "num_classes is 11, expected 10"),
    "preprocessing of another kind": (lambda folder: damage(folder, preprocessing={"mean": [0.1, 0.2]}), "preprocessing."),
    "a deviation of 0": (
        lambda folder: damage(folder, preprocessing={"mean": [0.1], "std": [0.0]}),
        "kept: preprocessing: std.0 is 0.0; expected > 0",
    ),
    "a size in words": (
        lambda folder: damage(folder, preprocessing={"mean": [0.1], "std": [0.1], "size": "large"}),
        "kept: preprocessing: size is 'large'",
    ),
    "an interpolation that nobody knows": (
        lambda folder: damage(folder, preprocessing={"mean": [0.1], "std": [0.1], "size": 8, "interpolation": "x"}),
        "kept: preprocessing: interpolation is 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_any_other_folder_is_refused_in_one_line(promoted: dict[str, object], case: str) -> None:
    change, says = FOREIGN[case]
    change(Path("kept"))
    text = prepkd("train-teacher", "kept", code=2, **promoted)
    assert says in text and text.count("\n") == 1 and text.startswith("error: "), text
    assert not Path("models/teachers/kept").exists()
