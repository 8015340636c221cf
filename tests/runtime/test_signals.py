"""Ending signals: the last finished epoch is kept, the message says how to continue, the exit code names the signal."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prepkd.cli import app
from prepkd.runtime.signals import ENDING, interrupt_on_signals
from prepkd.stages._progress import TrainingProgress
from typer.testing import CliRunner

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 10}
augment: []
teachers: {large: {model: convnet4, epochs: 4, precision: float32, checkpoint_every: 9}}
cache: {views: all}
distill: {teacher: large, student: convnet4, epochs: 1}
compare: {runs: [kd]}
"""


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        app(["prepare"], standalone_mode=False)
    return folder


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_training_stops_as_with_ctrl_c(
    number: signal.Signals, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT is ignored at first, as in a script's background jobs."""
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # SIGHUP is ignored if the tests run under nohup
    interrupt_on_signals()
    epochs: list[float] = []

    def note(shown: TrainingProgress, seed: int, row: dict[str, float]) -> None:
        epochs.append(row["epoch"])
        if len(epochs) == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(TrainingProgress, "epoch", note)
    stopped = CliRunner().invoke(app, ["train-teacher", "large"])
    assert stopped.exit_code == 128 + number
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert stopped.output.splitlines()[-1] == (
        f"interrupted{by}: finished chunks, epochs and seeds are kept; run the same command again to continue"
    )
    assert len(list(tmp_path.glob("*/checkpoint.pt"))) == 1, "though none was due before the end"
    assert CliRunner().invoke(app, ["train-teacher", "large"]).exit_code == 0
    assert epochs == [0, 1, 0, 1, 2, 3], "the first two are those of the checkpoint"
    assert not list(tmp_path.iterdir())


def test_under_nohup_a_closed_terminal_does_not_end_it() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt_on_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.SIG_IGN not in [signal.getsignal(number) for number in ENDING if number != signal.SIGHUP]


WAITS = """
import os, signal, sys
from prepkd.runtime.signals import interrupt_on_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)
interrupt_on_signals()
try:
    os.write(1, b"ready")  # print writes the end of the line apart: the terminal may be gone by then
    while True:
        signal.pause()
except KeyboardInterrupt as interruption:
    print("the saving says something", flush=True)
    print("and so does this", file=sys.stderr, flush=True)
    with open(sys.argv[1], "a") as file:
        file.write(str(interruption.number))
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_said_when_the_terminal_or_pipe_is_gone_does_not_end_the_saving(terminal: bool, tmp_path: Path) -> None:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", WAITS, str(tmp_path / "saved")]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        assert os.read(ours, 5) == b"ready"
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        process.wait(timeout=60)
    assert process.returncode == 0 and (tmp_path / "saved").read_text() == str(int(signal.SIGHUP))


def test_a_second_signal_does_not_end_the_saving() -> None:
    """A closing terminal sends SIGHUP twice, and a batch system SIGTERM after its warning; only a second Ctrl-C interrupts."""
    interrupt_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGUSR1)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
