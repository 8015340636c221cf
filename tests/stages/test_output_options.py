"""--json, --quiet, 60 columns, PREPKD_DEBUG: each works the same for every command."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import enter, invoke
from PIL import Image
from prepkd.cli import COMMANDS
from prepkd.display.console import TextConsole
from prepkd.stages import _console
from prepkd.stages._progress import StoreProgress, TrainingProgress
from prepkd.training.progress import BatchProgress

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet4, epochs: 2, precision: float32}}
generations: {next: {teacher: large, student: convnet4, epochs: 1, precision: float32}}
cache: {views: 2, batch_size: 32, chunk: 64}
distill: {teacher: large, student: convnet4, epochs: 2, seeds: [0, 1], precision: float32}
compare: {runs: [kd]}
"""
STORE = "data/logits/large.zarr"
FEATURES = ["cache-features", "large", "-S", "cache.features=[pooled]"]
# Commands in an order in which each finds its inputs, with keys that its JSON has.
REPORTS: list[tuple[list[str], set[str]]] = [
    (["prepare"], {"data", "splits"}),
    (["train-teacher", "large"], {"teacher", "test_top1", "seconds", "folder"}),
    (["cache-logits", "large"], {"store", "bytes", "teacher_error", "sha256"}),
    (["train-generation", "next"], {"teacher", "test_top1"}),
    (FEATURES, {"teacher", "entries", "stores"}),
    (["distill"], {"method", "students", "test_top1"}),
    (["evaluate"], {"method", "n", "top1", "seeds", "classes"}),
    (["compare", "--run", "kd"], {"run", "students", "test_top1", "file"}),
    (["compare"], {"folder", "table"}),
    (["report"], {"page", "bytes", "left_out"}),
    (["inspect", STORE], {"views_read"}),
    (["verify", STORE, "--samples", "8", "--seed", "0"], {"verdict"}),
    (["plan"], {"bytes", "files"}),
    (["methods", "--check", "kd"], {"missing"}),
    (["predict", "image.png"], {"model", "images", "errors"}),
    (["status"], {"stages", "next", "results"}),
    (["doctor"], {"checks", "fails"}),
    (["fetch-views", STORE, "--to", "copy"], {"store", "files", "bytes"}),
]
NO_FIGURES = {"init", "schema", "gather"}  # these write files, or print a schema, which is JSON itself
LONG = {"import", "export"}  # tested beside the tests of their files


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return each command's result with --json, all in one project of their own."""
    folder = tmp_path_factory.mktemp("json")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Path("params.yaml").write_text(PARAMS)
        Image.new("L", (8, 8)).save("image.png")
        for arguments, _ in REPORTS:
            found[" ".join(arguments)] = invoke(*arguments, "--json")
    return {"folder": folder, **found}


def test_every_command_that_reports_figures_is_tried() -> None:
    assert {arguments[0] for arguments, _ in REPORTS} | NO_FIGURES | LONG == COMMANDS.keys()


@pytest.mark.parametrize(("arguments", "keys"), REPORTS, ids=[" ".join(arguments) for arguments, _ in REPORTS])
def test_standard_output_is_one_json_value(said: dict[str, Any], arguments: list[str], keys: set[str]) -> None:
    done = said[" ".join(arguments)]
    assert done.exit_code in ((0, 1) if arguments[0] == "verify" else (0,)), done.output
    found = json.loads(done.stdout)
    assert keys <= found.keys()


def test_figures_are_those_of_the_files(said: dict[str, Any]) -> None:
    students = json.loads(said["distill"].stdout)
    card = json.loads((said["folder"] / "models/student/seed1/model.json").read_text())
    assert [one["seed"] for one in students["students"]] == [0, 1]
    assert students["students"][1]["test_top1"] == pytest.approx(card["test_top1"])
    details = json.loads((said["folder"] / "results/details.json").read_text())
    assert students["test_top1"] == pytest.approx(details["top1"] | {"n": 2})
    assert json.loads(said["compare --run kd"].stdout)["test_top1"] == pytest.approx(students["test_top1"])
    assert json.loads(said["cache-logits large"].stdout)["bytes"] > 2 * 100 * 10 * 2


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - NO_FIGURES))
def test_every_command_has_both_options(name: str) -> None:
    shown = invoke(name, "--help").output
    assert "--json" in shown and "--quiet" in shown


@pytest.mark.parametrize("name", sorted(NO_FIGURES))
def test_the_help_names_no_option_that_the_command_lacks(name: str) -> None:
    assert "--json" not in invoke(name, "--help").output
    assert invoke(name, "--json").exit_code == 2


@pytest.fixture
def project(said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the project."""
    return enter(shutil.copytree(said["folder"], tmp_path / "project"), monkeypatch)


QUIET = [["evaluate"], ["compare"], ["report"], ["cache-logits", "large"], ["distill"], ["inspect", STORE], ["plan"]]


@pytest.mark.parametrize("arguments", QUIET, ids=lambda value: value[0])
def test_quiet_prints_nothing_and_errors_stay(project: Path, arguments: list[str]) -> None:
    done = invoke(*arguments, "--quiet")
    lines = [line for line in done.output.splitlines() if not line.startswith("warning: ")]
    assert done.exit_code == 0 and lines == []
    assert json.loads(invoke(*arguments, "--quiet", "--json").stdout)
    shutil.rmtree(project / "data")
    done = (
        invoke(*arguments, "--quiet", "--params", "gone.yaml")
        if arguments[0] != "inspect"
        else invoke(*arguments, "-q")
    )
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.startswith("error: ")


def test_quiet_ends_with_its_command(project: Path) -> None:
    invoke("evaluate", "--quiet")
    assert "test top-1" in invoke("evaluate").output


@pytest.mark.parametrize("arguments", [["distill"], ["evaluate"], ["cache-logits", "large"], ["status"]], ids=str)
def test_summaries_fit_60_columns_without_colours(project: Path, arguments: list[str]) -> None:
    done = invoke(*arguments, columns=60)
    assert done.exit_code == 0 and done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert "\x1b" not in done.output


def test_warnings_are_loud_and_notes_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    _console.set_quiet(True)
    try:
        _console.say("a note")
        _console.say("warning: look")
        assert capsys.readouterr().err == "warning: look\n"
    finally:
        _console.set_quiet(False)


@pytest.mark.parametrize(("value", "traced"), [("1", True), ("0", False), ("", False)])
def test_the_traceback_behind_an_error_is_shown_on_request(
    value: str, traced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("PREPKD_DEBUG", value)
    done = invoke("verify", "nosuchprotocol://key:secret@bucket/x.zarr", "--samples", "8")
    assert done.exit_code == 2 and "error: " in done.stderr.splitlines()[-1]
    assert ("Traceback (most recent call last)" in done.stderr) == traced
    assert "verify_store" in done.stderr if traced else done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


class Counted:
    """Figures that count how often their loss is read."""

    def __init__(self) -> None:
        self.read = 0

    def loss(self) -> float:
        self.read += 1
        return 0.5


def test_the_loss_is_read_only_where_a_line_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the loss waits for the GPU, and a training step must not wait."""
    now, counted = [0.0], Counted()
    monkeypatch.setattr("prepkd.stages._progress.Pace.due", lambda pace: now[0] >= 30)
    monkeypatch.setattr(BatchProgress, "loss", lambda tick: counted.loss())
    with _console.progress() as bar:
        shown = TrainingProgress(bar, "kd", [0, 1], 3)
        for step in range(50):
            shown.step(0, BatchProgress(0, step + 1, 50, {}))
        assert counted.read == 0
        now[0] = 30
        shown.step(1, BatchProgress(2, 25, 50, {}))
        assert counted.read == 1


def test_a_log_gets_a_line_per_epoch_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prepkd.display.progress.MIN_SECONDS", 0)
    row = {"epoch": 0.0, "train/loss": 1.25, "train/top1": 0.5, "test/top1": 0.25, "samples_per_second": 1234.5}
    with _console.progress() as bar:
        shown = TrainingProgress(bar, "kd", [4, 5], 2)
        shown.start("kd: training convnet4")
        shown.step(4, BatchProgress(0, 10, 20, {}))
        shown.epoch(4, row)
        shown.epoch(5, row)  # finished earlier: none of its batches was reported
        shown.step(5, BatchProgress(1, 10, 20, {}))
        shown.epoch(5, row | {"epoch": 1.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "kd: training convnet4"
    start = "kd: seed 4, epoch 1/2, loss 1.250, train 50.0%, test 25.0%, 1,234 samples/s, "
    assert lines[1].startswith(start) and lines[1].endswith(" left")
    assert lines[2] == "kd: seed 5, continues after epoch 1/2"
    assert lines[3].startswith("kd: seed 5, epoch 2/2, ") and lines[3].endswith("0:00 left")


def test_a_bar_leaves_standard_output_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that wraps standard output while the bar is shown would later write to the bar's console."""
    monkeypatch.setattr(_console, "console", TextConsole(file=io.StringIO(), force_terminal=True))
    before = sys.stdout
    with _console.progress():
        assert sys.stdout is before


def test_a_log_gets_bytes_and_rate_of_a_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prepkd.display.progress.MIN_SECONDS", 0)
    with _console.progress() as bar:
        shown = StoreProgress(bar, "logits of large")
        shown.start(10, 8, 5_000_000)
        for _ in range(8):
            shown.chunk()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"logits of large: {n}/10 chunks" for n in (4, 6, 8, 10)]
    assert ", 2.00 MB of 5.00 MB, " in lines[0] and lines[0].endswith(" left") and "/s, " in lines[0]
