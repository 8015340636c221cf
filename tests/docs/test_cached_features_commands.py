"""The commands and the code of docs/how-to/cached-features.md run as printed, on a few digits; errors are one line each."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, enter, prepkd
from ruamel.yaml import YAML

PAGE = ROOT / "docs/how-to/cached-features.md"


def blocks(language: str) -> str:
    """Join the page's code blocks of a language."""
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, a teacher and its logits, made with the page's settings."""
    folder = tmp_path_factory.mktemp("project")
    yaml = YAML()
    params: dict[str, Any] = yaml.load(ROOT / "params.yaml")
    params["prepare"]["subset"] = 10
    params["teachers"]["large"]["epochs"] = 1
    params["cache"].update(views=3, batch_size=64)
    params["distill"].update(epochs=1, seeds=1)
    params["compare"].update(runs=["kd", "kd+at"], students=["resnet8"])
    for section, changes in yaml.load(blocks("yaml")).items():
        params[section].update(changes)
    yaml.dump(params, folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        for command in ("prepare", "train-teacher large", "cache-logits large"):
            prepkd(*command.split())
    return folder


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(project, monkeypatch)


def test_without_a_store_distill_says_what_is_missing() -> None:
    text = prepkd("distill", code=2)
    assert "(at: 3 views x 100 samples x 168 bytes = 0.1 MB" in text and "run `prepkd cache-features large`" in text


def test_the_plan_is_written_and_caches_nothing(project: Path) -> None:
    text = prepkd("cache-features", "large", "--plan")
    assert "at: 3 views x 100 samples x 168 bytes" in text
    assert (project / "data/asked/large/at.json").is_file() and not (project / "data/features").exists()
    first = (project / "data/asked/large/at.json").read_bytes()
    same = ["-S", "distill.student=resnet14", "-S", "distill.at.weight=5", "-S", "cache.features=[at, pooled]"]
    prepkd("cache-features", "large", "--plan", "--only", "at", *same)
    assert (project / "data/asked/large/at.json").read_bytes() == first
    prepkd("cache-features", "large", "--plan", "-S", "distill.at.stages=[stage1]")
    assert (project / "data/asked/large/at.json").read_bytes() != first


def test_the_page_runs_in_order(project: Path) -> None:
    lines = [shlex.split(line) for line in blocks("bash").splitlines()]
    assert len(lines) == 6
    for program, *arguments in lines:
        assert program == "prepkd"
        text = prepkd(*arguments)
        assert "Traceback" not in text
    assert (project / "data/copies/at.zarr/partial.json").is_file()
    found: dict[str, Any] = {}
    exec(blocks("python"), found)
    assert found["maps"].shape == (100, 64)
    text = prepkd("gather")
    assert '"large/at"' in (project / "data/lesson.json").read_text(), text
    prepkd("gather", "-S", "distill.method=kd")
    assert "large/at" not in (project / "data/lesson.json").read_text()
    prepkd("gather", "--teachers", "large")
    read = {path.stem: "large/at" in path.read_text() for path in (project / "data/lessons/large").iterdir()}
    assert read and all(reads == ("at" in run) for run, reads in read.items()), read
    assert any(read.values())


def test_a_second_entry_leaves_the_first_and_the_logits(project: Path) -> None:
    prepkd("cache-features", "large")
    before = {path: path.stat().st_mtime_ns for path in (project / "data").rglob("*") if path.is_file()}
    text = prepkd("cache-features", "large", "-S", "cache.features=[at, pooled]")
    assert "data/features/large/at.zarr: already finished" in text and "pooled: 3 views" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (project / "data/features/large/pooled.zarr/manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-S", "cache.features=[]"], "cache.features is empty; name feature terms"),
        (["-S", "cache.features=[dkd]"], "cache.features has 'dkd', which reads no features"),
        (["-S", "cache.features=['../x']"], "cache.features"),
        (["-S", "cache.features=[at, at]"], "names 'at' twice"),
        (
            ["-S", "cache.features=[nowhere]"],
            "error: the teacher, cache.features: model ResNet has no feature 'nowhere'",
        ),
        (["--only", "pooled"], "--only is 'pooled'; expected an entry of cache.features: at"),
        (
            ["-S", "distill.student=convnet8"],
            "error: the student, distill.at.stages: model ConvNet has no feature 'stage2'",
        ),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str) -> None:
    text = prepkd("cache-features", "large", *arguments, code=2)
    assert line in text and text.startswith("error: ") and text.count("\n") == 1, text


def test_a_feature_that_a_live_teacher_lacks_is_named_with_its_setting() -> None:
    settings = {"distill.student": "resnet18", "distill.sp.feature": "stage4", "distill.source": "online"}
    given = [f"{key}={value}" for key, value in settings.items()]
    text = prepkd("distill", "--method", "kd+sp", *(word for one in given for word in ("-S", one)), code=2)
    assert text.startswith(
        "error: the teacher of method kd+sp, distill.sp.feature: model ResNet has no feature 'stage4'"
    )


def test_a_file_of_somebody_at_the_place_stays(project: Path) -> None:
    place = project / "data/features/large/stem.zarr"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("x")
    text = prepkd("cache-features", "large", "-S", "cache.features=[stem]", code=2)
    assert "holds mine.txt" in text and [path.name for path in place.iterdir()] == ["mine.txt"]
