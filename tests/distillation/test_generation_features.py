"""Generations with feature terms: a chain trained from cached features equals one of live teachers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import enter, prepkd

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 1, lr: 0.05, precision: float32}}
generations:
  one: &one
    {teacher: large, student: convnet8, method: kd+at+pkt, at: {stages: [stage1]}, epochs: 2, lr: 0.05, batch_size: 20,
     precision: float32, seed: 1}
  two: {<<: *one, teacher: one, student: convnet4, seed: 2}
cache: {views: 2, batch_size: 32, chunk: 64, features: [at, pooled]}
distill:
  {teacher: two, student: convnet4, method: kd+at, at: {stages: [stem, stage1]}, epochs: 1, seeds: [0], precision: float32}
compare: {runs: [kd], teachers: [two], students: [convnet4]}
"""
TEACHERS = Path("models/teachers")


def card(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return content


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generations")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Path("params.yaml").write_text(PARAMS)
        for command in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
            prepkd(*command)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns("scratch")), monkeypatch)


def test_a_chain_from_cached_features_is_that_of_live_teachers(project: Path) -> None:
    for teacher, generation in (("large", "one"), ("one", "two")):
        prepkd("cache-features", teacher, "--generation", generation)
        prepkd("train-generation", generation)
        prepkd("cache-logits", generation)
        made_from = card(TEACHERS / generation)["inputs"]["teacher"][teacher]
        assert made_from["features"].keys() == {"at", "pooled"}
    assert "PASS" in prepkd("verify", "data/features/one/at.zarr", "--samples", "16", "--seed", "0")
    prepkd("cache-features", "two")  # a generation is a teacher like any other
    prepkd("distill")
    folders = [TEACHERS / "one", TEACHERS / "two", Path("models/student/seed0")]
    cached = [(folder / "model.safetensors").read_bytes() for folder in folders]
    for folder in ("data/features", "scratch", "models/student", "results", *map(str, folders[:2])):
        shutil.rmtree(folder)
    for generation in ("one", "two"):
        prepkd("train-generation", generation, **{f"generations.{generation}.source": "online"})
    prepkd("distill", "--source", "online")
    assert [(folder / "model.safetensors").read_bytes() for folder in folders] == cached
    plain = prepkd("train-generation", "one", "--replace", generations__one__method="kd")
    assert "taught by large" in plain and (folders[0] / "model.safetensors").read_bytes() != cached[0]


def test_what_is_not_cached_for_a_generation_is_named_with_the_command_that_caches_it(project: Path) -> None:
    line = prepkd("train-generation", "one", code=2)
    assert (
        "method kd+at+pkt needs features of teacher 'large' that are not cached (at: 2 views x 100 samples x " in line
    )
    says = "; run `prepkd cache-features large --generation one`, or set generations.one.source: online\n"
    assert line.endswith(says) and line.count("\n") == 1
    prepkd("cache-features", "large")  # caches the entries for `distill`'s student, which reads other stages
    line = prepkd("train-generation", "one", code=2)
    assert "at.zarr: asked.teacher has stage1, stem, other features than the settings'" in line
    assert line.endswith("; run `prepkd cache-features large --generation one` again\n")
    line = prepkd("cache-features", "large", "--generation", "one", code=2)
    assert "at.zarr: holds another store, of teacher 'large'" in line and "--replace replaces it" in line
    assert line.count("\n") == 1, "refused before the cost is printed"
    prepkd("cache-features", "large", "--generation", "one", "--replace")
    prepkd("train-generation", "one")


@pytest.mark.parametrize(
    ("name", "generation", "says"),
    [
        ("large", "three", "--generation is 'three'; expected a key of generations: one, two"),
        ("large", "two", "--generation is 'two', whose teacher is 'one'; expected a generation of 'large'"),
    ],
)
def test_a_generation_of_another_teacher_is_refused(project: Path, name: str, generation: str, says: str) -> None:
    assert says in prepkd("cache-features", name, "--generation", generation, code=2)
