"""Each piece of work has one writer, in a place that queued experiments share."""

import os
import subprocess
from pathlib import Path

import preloaded
import pytest
from prepkd.runtime.scratch import is_awaited
from prepkd.runtime.workspace import scratch_root
from prepkd.stages._project import scratch

HOLDER = """
import sys
from prepkd.stages._project import scratch
with scratch("f00d") as folder:
    (folder / "half").write_text("work")
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def process(code: str = HOLDER) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [preloaded.commands() / "python", "-c", code],
        env=os.environ | {"COLUMNS": "200"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(stream: object) -> str:
    text: str = stream.readline()  # type: ignore[attr-defined]
    return text.rstrip("\n")


def holder() -> "subprocess.Popen[str]":
    started = process()
    assert line(started.stdout) == "locked"
    return started


# Like HOLDER, but reads the work instead of writing it.
WAITER = HOLDER.replace('(folder / "half").write_text("work")', 'print((folder / "half").read_text(), flush=True)')


def test_others_wait_for_a_writer_and_take_what_it_made(root: Path) -> None:
    said = f"{root / 'f00d'}: another process is doing the same work; waiting for it to end"
    with holder() as first, process(WAITER) as second:
        assert line(second.stderr) == said
        with process(WAITER) as third:
            assert line(third.stderr) == said
            assert is_awaited(root / "f00d")
            with scratch("cafe") as other:
                assert other == root / "cafe" and not is_awaited(other)
            first.communicate("\n", timeout=60)
            assert [line(second.stdout) for _ in range(2)] == ["work", "locked"], "it was not done twice"
            while not is_awaited(root / "f00d"):  # the third becomes the first in line
                assert third.poll() is None
            second.communicate("\n", timeout=60)
            assert [line(third.stdout) for _ in range(2)] == ["work", "locked"]
            assert not is_awaited(root / "f00d")
            third.communicate("\n", timeout=60)
    assert [ended.returncode for ended in (first, second, third)] == [0, 0, 0]
    assert not list(root.iterdir()), "work, locks and the line are gone"


def test_one_that_waits_goes_on_where_a_killed_writer_was(root: Path) -> None:
    with holder() as first, process(WAITER) as second:
        assert "waiting" in line(second.stderr)
        first.kill()
        assert line(second.stdout) == "work"
        second.communicate("\n", timeout=60)
    assert second.returncode == 0 and not list(root.iterdir())


def test_one_that_waited_and_was_killed_is_waited_for_no_more(root: Path) -> None:
    with holder() as first:
        with process(WAITER) as second:
            assert "waiting" in line(second.stderr)
            second.kill()
        while is_awaited(root / "f00d"):  # the waiting fork is killed a moment later
            assert first.poll() is None
        first.communicate("\n", timeout=60)
    assert first.returncode == 0 and not list(root.iterdir())


def test_a_killed_writer_leaves_its_work_and_no_lock(root: Path) -> None:
    with holder() as process:
        process.kill()
        # Inside the `with`: leaving it closes the standard input for which the fork, killed a moment later, still waits.
        with scratch("f00d") as folder:
            assert (folder / "half").read_text() == "work"
    assert not (root / "f00d").exists()


def test_work_that_fails_is_kept(root: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), scratch("f00d") as folder:
        (folder / "half").write_text("work")
        raise RuntimeError("half way")
    with scratch("f00d") as folder:
        assert (folder / "half").read_text() == "work"


def test_the_environment_chooses(root: Path) -> None:
    assert scratch_root() == root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PREPKD_SCRATCH")
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    return tmp_path / "project"


@pytest.mark.parametrize("inside", [".", "pipeline/prepkd"])
def test_under_the_dvc_root(project: Path, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(project / inside)
    assert scratch_root() == project / ".dvc" / "tmp" / "prepkd"


# The folders in which `dvc exp run --queue` and `dvc exp run --temp` work; each is a DVC repository of its own.
@pytest.mark.parametrize("workspace", ["exps/tmpabc", "exps/standalone/tmpabc"])
@pytest.mark.parametrize("inside", [".", "pipeline/prepkd"])
def test_queued_experiments_share_the_projects(
    project: Path, workspace: str, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project / ".dvc" / "tmp" / workspace
    (here / ".dvc").mkdir(parents=True)
    (here / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here / inside)
    assert scratch_root() == project / ".dvc" / "tmp" / "prepkd"


def test_without_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREPKD_SCRATCH")
    monkeypatch.chdir(tmp_path)
    assert not any((folder / ".dvc").exists() for folder in (tmp_path, *tmp_path.parents))
    assert scratch_root() == tmp_path / ".prepkd-scratch"
