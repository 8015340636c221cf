"""Tasks on this machine, several at once, each in its own process: outcomes, failures, killed processes, interruptions."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import tasks_of_tests as tasks
from prepkd.engines import local
from prepkd.engines.task import Outcome, Project, Task
from prepkd.runtime.signals import Interrupted


def outcomes(
    folder: Path, *calls: tuple[Callable[..., Any], Any], jobs: int = 2
) -> tuple[dict[str, Outcome], list[str]]:
    said: list[str] = []
    given = [Task(f"{number} {call.__name__}", call, tuple(rest)) for number, (call, *rest) in enumerate(calls)]
    project = Project(folder, folder / "scratch")
    return {one.name: one for one in local.run(given, project, jobs, said.append)}, said


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_task_has_its_outcome_and_its_output_is_passed_on(tmp_path: Path, jobs: int) -> None:
    found, said = outcomes(tmp_path, (tasks.double, 4), (tasks.double, 5), (tasks.many, 10**6), jobs=jobs)
    assert {name: one.value for name, one in found.items()} == {"0 double": 8, "1 double": 10, "2 many": bytes(10**6)}
    where = tmp_path.name
    assert sorted(said) == sorted([f"4 in {where}", f"5 in {where}", *2 * ["and from a library"]])


def test_a_task_that_fails_says_why_in_a_line_and_the_others_finish(tmp_path: Path) -> None:
    calls = [(one,) for one in (tasks.refuse, tasks.fail, tasks.leave, tasks.die, tasks.full)]
    found, said = outcomes(tmp_path, *calls, (tasks.double, 1))
    assert found.pop("5 double").value == 2
    assert {name: one.failure for name, one in found.items()} == {
        "0 refuse": "x.yaml: expected a number",
        "1 fail": "ZeroDivisionError: by zero",
        "2 leave": "SystemExit: 3",
        "3 die": "its process was ended by SIGKILL; finished work is kept",
        "4 full": "model.pt: No space left on device; finished work is kept: make room, then run the same command again",
    }
    assert "Traceback (most recent call last):" in said  # ZeroDivisionError is a programming error


def test_a_process_that_is_killed_while_it_sends_its_result_leaves_its_slot_to_the_next(tmp_path: Path) -> None:
    found, _ = outcomes(tmp_path, (tasks.die_while_sending,), (tasks.double, 1), jobs=1)
    assert found["0 die_while_sending"].failure == "its process was ended by SIGKILL; finished work is kept"
    assert found["1 double"].value == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            BlockingIOError(errno.EAGAIN, "no more processes"),
            "no more processes; finished work is kept: allow more processes and threads (ulimit -u), then run the same "
            "command again",
        ),
        (EOFError("unexpected EOF"), "unexpected EOF"),
    ],
)
def test_a_process_that_cannot_start_is_a_failure_and_leaves_its_slot_to_the_next(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, faults = ForkServerProcess.start, [error]

    def starts_second(process: ForkServerProcess) -> None:
        if faults:
            raise faults.pop()
        start(process)

    monkeypatch.setattr(ForkServerProcess, "start", starts_second)
    found, _ = outcomes(tmp_path, (tasks.double, 1), (tasks.double, 2), jobs=1)
    assert found["0 double"].failure == f"its process cannot start: {reason}"
    assert found["1 double"].value == 4


def test_output_that_cannot_be_passed_on_ends_the_tasks(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    given = [Task(str(number), tasks.write_much, (10**5,)) for number in range(3)]
    with pytest.raises(BrokenPipeError):
        list(local.run(given, Project(tmp_path, tmp_path), 1, broken))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    found, _ = outcomes(tmp_path / "none", (tasks.double, 1))
    assert (found["0 double"].failure or "").startswith(f"{tmp_path / 'none'}: No such file or directory on ")


def test_an_interruption_reaches_the_tasks_and_waits_for_them(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    given = [Task(name, tasks.work_until_interrupted, (name,)) for name in names]

    def interrupt(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    def when_two_have_begun() -> None:
        while len(list(tmp_path.glob("*.began"))) < 2:
            ended.wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before, ended = signal.signal(signal.SIGTERM, interrupt), threading.Event()
    killer = threading.Thread(target=when_two_have_begun)
    killer.start()
    try:
        with pytest.raises(Interrupted):
            list(local.run(given, Project(tmp_path, tmp_path), 2, lambda line: None))
    finally:
        signal.signal(signal.SIGTERM, before)
        killer.join()
    # The third task was never started.
    assert len(list(tmp_path.glob("*.saved"))) == len(list(tmp_path.glob("*.began"))) == 2
