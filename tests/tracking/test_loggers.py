"""Loggers read back: settings once, every epoch once, even after an interruption; nothing is sent to another machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb_file
from commands import ROOT
from prepkd.errors import InputError
from prepkd.tracking.loggers import LOGGERS, Run, experiment_id, logged, remove_run

RUN = Run("kd-seed0", "0123456789abcdef" * 4, {"lr": 0.1, "kd": {"tau": 2.0}, "milestones": [1, 2], "ema": None})
ROWS = [{"train/loss": 1 / (e + 1), "test/top1": e / 8, "epoch": float(e)} for e in range(5)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's logger settings, and fail on a connection to another machine."""
    for key in os.environ:
        if key.startswith(("WANDB", "MLFLOW")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


# A run as read back: its rows' figures by epoch in order, one setting, whether it finished successfully
Found = tuple[list[tuple[int, float, float]], str, bool | None]


def read_tensorboard(folder: Path, run: Run) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    place = folder / "tensorboard" / run.name / run.fingerprint[:8]
    assert len(list(place.iterdir())) == 1, "one file of events"
    events = EventAccumulator(str(place)).Reload()
    loss, top1 = events.Scalars("train/loss"), events.Scalars("test/top1")
    assert [one.step for one in loss] == [one.step for one in top1]
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(plugin).session_start_info.hparams
    return (
        [(one.step, one.value, other.value) for one, other in zip(loss, top1, strict=True)],
        str(settings["kd/tau"].number_value),
        None,
    )


def read_wandb(folder: Path, run: Run) -> Found:
    import wandb

    wandb.teardown()  # W&B's process writes the last records after a run has finished
    [file] = folder.glob(f"wandb/offline-run-*-{run.fingerprint[:16]}/*.wandb")
    found = wandb_file.read(file)
    assert (found["project"], found["name"], found["id"]) == ("prepkd", run.name, run.fingerprint[:16])
    assert [row["_step"] for row in found["rows"]] == [row["epoch"] for row in found["rows"]]
    rows = [(int(row["epoch"]), row["train/loss"], row["test/top1"]) for row in found["rows"]]
    return rows, str(found["settings"]["kd"]["tau"]), found["exit"] == 0


def read_mlflow(folder: Path, run: Run) -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("prepkd")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{run.fingerprint}'")
    [found] = runs
    assert found.info.run_name == run.name
    loss, top1 = (client.get_metric_history(found.info.run_id, key) for key in ("train/loss", "test/top1"))
    rows = [(one.step, one.value, other.value) for one, other in zip(loss, top1, strict=True)]
    return rows, found.data.params["kd/tau"], {"FINISHED": True, "FAILED": False}[found.info.status]


READERS: dict[str, Callable[[Path, Run], Found]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
}


def report(kind: str, folder: Path, run: Run, rows: list[dict[str, float]], *, stop: bool = False) -> None:
    with logged(kind, folder, run) as write:
        for row in rows:
            write(row)
        if stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", LOGGERS)
def test_an_interrupted_run_is_one_run_with_every_epoch_once(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "logs"
    with pytest.raises(KeyboardInterrupt):
        report(kind, folder, RUN, ROWS[:2], stop=True)
    found, setting, ended_well = READERS[kind](folder, RUN)
    assert found == [(e, pytest.approx(1 / (e + 1)), pytest.approx(e / 8)) for e in range(2)]
    assert (setting, ended_well) in [("2.0", False), ("2.0", None)]
    report(kind, folder, RUN, ROWS)  # a resumed run reports the epochs of its checkpoint as well
    other = replace(RUN, name="kd-seed1", fingerprint="f" * 64)
    report(kind, folder, other, ROWS[:3])
    report(kind, folder, RUN, ROWS)  # a finished seed of a run that was interrupted later
    for run, epochs in ((RUN, 5), (other, 3)):
        found, setting, ended_well = READERS[kind](folder, run)
        assert found == [(e, pytest.approx(1 / (e + 1)), pytest.approx(e / 8)) for e in range(epochs)]
        assert (setting, ended_well) in [("2.0", True), ("2.0", None)]


@pytest.mark.parametrize("kind", LOGGERS)
def test_secrets_of_urls_are_in_no_file_of_a_logger(kind: str, tmp_path: Path) -> None:
    secret = {"weights": "s3://AKIA1:SECRETPW@bucket/w.pt", "own": {"urls": ["https://host/x?token=SECRETPW"]}}
    report(kind, tmp_path, replace(RUN, settings={**RUN.settings, **secret}), ROWS[:1])
    READERS[kind](tmp_path, RUN)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"s3://***@bucket/w.pt" in one for one in files)
    assert not any(b"SECRETPW" in one or b"AKIA1" in one for one in files)


THEIRS = ["notes.txt", "files/plot.png", "logs/mine.log", "run-other.wandb", "tmp/code/a.py", "files/media/x.png"]


@pytest.mark.parametrize("name", THEIRS)
def test_somebodys_file_in_an_offline_runs_folder_stays(name: str, tmp_path: Path) -> None:
    """Only the run's own record is removed, so that the resumed run is listed once."""
    folder = tmp_path / "offline-run-20260101_000000-0123456789abcdef"
    own = ["run-0123456789abcdef.wandb", "logs/debug.log", "logs/debug-internal.log", "files/requirements.txt"]
    for one in (*own, name):
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).write_text("years of work")
    remove_run(folder, "0123456789abcdef")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [name]
    (folder / name).unlink()
    remove_run(folder, "0123456789abcdef")
    assert folder.exists() == (name == "files/media/x.png")  # the user's folder stays


def test_an_offline_runs_own_folder_goes_whole_and_a_link_stays(tmp_path: Path) -> None:
    folder, link = tmp_path / "offline-run-1-ab", tmp_path / "offline-run-2-ab"
    for one in ("run-ab.wandb", "run-ab.wandb.synced", "logs/debug.log", "files/wandb-metadata.json"):
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).touch()
    (folder / "tmp/code").mkdir(parents=True)
    link.symlink_to(folder)
    remove_run(link, "ab")
    assert (folder / "run-ab.wandb").is_file()
    remove_run(folder, "ab")
    assert not folder.exists() and link.is_symlink()


@pytest.mark.parametrize("kind", LOGGERS)
def test_somebodys_files_in_the_loggers_folder_stay(kind: str, tmp_path: Path) -> None:
    """Files beside the run's own stay in every folder that a logger makes, even if the run is reported again."""
    report(kind, tmp_path, RUN, ROWS[:1])
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir() and not path.is_symlink())]
    theirs = [folder / name for folder in folders for name in ("notes.txt", "events.out.tfevents.txt/mine.txt")]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    report(kind, tmp_path, RUN, ROWS)
    report(kind, tmp_path, replace(RUN, fingerprint="f" * 64), ROWS[:1])
    assert all(path.read_text() == "years of work" for path in theirs)


def test_none_writes_and_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from prepkd.tracking.loggers import Run, logged\n"
        "with logged(None, Path('logs'), Run('a', 'b', {})) as write: write({'epoch': 0.0})\n"
        "assert not {'lightning_fabric', 'pytorch_lightning', 'tensorboard', 'wandb', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


MODULES = {"tensorboard": "lightning_fabric.loggers.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


@pytest.mark.parametrize("kind", LOGGERS)
def test_a_missing_package_is_named_with_its_extra(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULES[kind], None)
    with pytest.raises(InputError) as caught:
        report(kind, tmp_path, RUN, [])
    text = str(caught.value)
    assert text.startswith(f"logger is {kind}: ") and MODULES[kind] in text and "\n" not in text
    assert text.endswith(f"; `pip install 'prepkd[{kind}]'`, or logger: null")


def refused(kind: str, folder: Path) -> str:
    """The one line with which a logger refuses to open."""
    with pytest.raises(InputError) as caught:
        report(kind, folder, RUN, ROWS[:1])
    text = str(caught.value)
    assert text.startswith(f"logger is {kind}: ") and "\n" not in text
    return text


STARTED_AT_ONCE = """
import sys
from pathlib import Path
import mlflow, pytorch_lightning.loggers  # slow: before all start at once
from prepkd.tracking.loggers import Run, logged
print("ready", flush=True)
sys.stdin.readline()
with logged("mlflow", Path(sys.argv[1]), Run(sys.argv[2], sys.argv[2] * 64, {"kd": {"tau": 2.0}})) as write:
    write({"train/loss": 1.0, "test/top1": 0.0, "epoch": 0.0})
"""


def test_trainings_that_start_at_once_share_mlflows_new_database(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "logs"
    command = [sys.executable, "-c", STARTED_AT_ONCE, str(folder)]
    pipe = subprocess.PIPE
    trainings = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True) for name in "abc"]
    for one in trainings:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in trainings:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in trainings:
        one.communicate()
    assert [one.returncode for one in trainings] == [0, 0, 0]
    for name in "abc":
        assert read_mlflow(folder, Run(name, name * 64, {})) == ([(0, 1.0, 0.0)], "2.0", True)
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]


def test_an_mlflow_experiment_that_another_machine_creates_meanwhile_is_used() -> None:
    from mlflow.exceptions import MlflowException

    class Server:
        found = iter([None, SimpleNamespace(experiment_id="7", lifecycle_stage="active")])

        def get_experiment_by_name(self, name: str) -> Any:
            return next(self.found)

        def create_experiment(self, name: str) -> str:
            raise MlflowException("RESOURCE_ALREADY_EXISTS")

    assert experiment_id(Server(), "prepkd") == "7"  # type: ignore[arg-type]


def test_a_deleted_mlflow_experiment_is_named_with_the_command_that_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(place)
    own = client.create_experiment("prepkd")
    client.delete_experiment(own)
    text = refused("mlflow", tmp_path)
    assert "its experiment prepkd was deleted" in text
    assert f"`MLFLOW_TRACKING_URI={place} mlflow experiments restore -x {own}`" in text
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    report("mlflow", tmp_path, RUN, ROWS[:1])
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    client.restore_experiment(own)
    report("mlflow", tmp_path, RUN, ROWS[:1])
    assert read_mlflow(tmp_path, RUN) == ([(0, 1.0, 0.0)], "2.0", True)


def test_a_tracking_uri_that_mlflow_does_not_support_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bogus://me:SECRETPW@x")
    text = refused("mlflow", tmp_path)
    assert "unsupported URI 'bogus://***@x'" in text and "SECRETPW" not in text
    assert text.endswith("; correct MLFLOW_TRACKING_URI, or logger: null")


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"WANDB_MODE": "online", "WANDB_API_KEY": ""}, "No API key configured."),
        ({"WANDB_MODE": "bogus"}, "mode: Input should be 'online', 'offline', "),
        ({"WANDB_PROJECT": "a/b"}, "Invalid project name 'a/b'"),
    ],
)
def test_what_wandb_refuses_is_said_in_one_line(
    variables: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # without the user's key
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    text = refused("wandb", tmp_path)
    assert text.startswith(f"logger is wandb: {reason}") and text.endswith(", or logger: null")


def test_a_wandb_error_of_the_training_is_not_taken_for_a_refusal_to_open(tmp_path: Path) -> None:
    import wandb

    with pytest.raises(wandb.Error, match="later"), logged("wandb", tmp_path, RUN):
        raise wandb.Error("later")


def test_every_logger_is_a_choice_and_an_extra() -> None:
    import tomllib

    from prepkd.project.schema import json_schema

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(LOGGERS) <= set(extras)
    text, null = json_schema()["properties"]["logger"]["anyOf"]
    assert text["enum"] == list(LOGGERS) and null == {"type": "null"}


def test_a_queued_experiments_logs_go_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prepkd.runtime.workspace import logs_folder

    monkeypatch.chdir(tmp_path)
    assert logs_folder() == Path("results/logs")
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    assert logs_folder() == tmp_path / "results/logs"
