"""One piece of work has one writer, in a place that queued experiments share."""

import subprocess
import sys
from pathlib import Path

import pytest
from prepkd.errors import InputError
from prepkd.stages._shared import scratch, scratch_root
from store_checks import refused

HOLDER = """
import sys
from prepkd.stages._shared import scratch
with scratch("f00d") as folder:
    (folder / "half").write_text("work")
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def enter(name: str) -> None:
    with scratch(name):
        raise AssertionError("two writers at once")


def holder() -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_writer_is_refused_until_the_first_ends(root: Path) -> None:
    with holder() as process:
        text = refused(InputError, enter, "f00d")
        assert text == f"{root / 'f00d'}: another process is doing this very work; wait for it, or stop it first"
        assert (root / "f00d" / "half").read_text() == "work", "the refused one must not tidy up"
        with scratch("cafe") as other:
            assert other == root / "cafe"
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert not (root / "f00d").exists()
    with scratch("f00d") as folder:
        assert not list(folder.iterdir())


def test_a_killed_writer_leaves_its_work_and_no_lock(root: Path) -> None:
    with holder() as process:
        process.kill()
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


# Where `dvc exp run --queue` and `dvc exp run --temp` work; each is a DVC repository of its own.
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
