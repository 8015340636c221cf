"""Finished work that stays in scratch: only the same run finds it again."""

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from filelock import FileLock
from prepkd.runtime import reusable_scratch as kept_work
from prepkd.runtime.reusable_scratch import MARK, SOFTWARE, reusable_scratch, versioned_scratch


def work(root: Path, fingerprint: str, text: str = "work", *, limit: int = 10**6) -> str | None:
    """Write `text` as finished work and return None, or return the text of work that is already finished."""
    with reusable_scratch(root, fingerprint, on_wait=print, limit=limit) as folder:
        file = folder / "done"
        if file.exists():
            return file.read_text()
        file.write_text(text)
    return None


def test_finished_work_is_found_again(tmp_path: Path) -> None:
    assert work(tmp_path, "f00d", "first") is None
    assert work(tmp_path, "f00d", "second") == "first"
    assert work(tmp_path, "cafe", "third") is None


def test_work_of_other_software_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(tmp_path, "f00d", "first")
    monkeypatch.setattr(kept_work, "software_fingerprint", lambda: "0" * 64)
    assert work(tmp_path, "f00d", "second") is None
    assert work(tmp_path, "f00d") == "second"


def test_finished_work_of_another_machine_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(tmp_path, "f00d", "first")
    monkeypatch.setattr("platform.node", lambda: "another")
    assert work(tmp_path, "f00d", "second") is None
    assert work(tmp_path, "f00d") == "second"


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The folder of unfinished work, as after Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), reusable_scratch(tmp_path, "f00d", on_wait=pytest.fail) as folder:
        (folder / "done").write_text("half")
        raise KeyboardInterrupt
    assert not (folder / MARK).exists()
    return folder


def test_unfinished_work_goes_on_under_the_same_software(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even on another machine: a batch system continues a job wherever there is room."""
    monkeypatch.setattr("platform.node", lambda: "another")
    with reusable_scratch(half.parent, half.name, on_wait=pytest.fail) as folder:
        assert (folder / "done").read_text() == "half"


@pytest.mark.parametrize("lock", [reusable_scratch, versioned_scratch])
def test_unfinished_work_of_other_software_starts_anew(
    lock: Callable[..., AbstractContextManager[Path]], half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_work, "software_fingerprint", lambda: "0" * 64)
    for expected in (
        [f"{half}: work of another version of prepkd or of its libraries is removed; training starts anew"],
        [],  # now it is work of this software
    ):
        said: list[str] = []
        with pytest.raises(KeyboardInterrupt), lock(half.parent, half.name, on_wait=said.append) as folder:
            assert (folder / "done").exists() == (not expected)
            (folder / "done").write_text("other")
            raise KeyboardInterrupt
        assert said == expected


def test_unfinished_work_of_unknown_software_starts_anew(half: Path) -> None:
    (half / SOFTWARE).unlink()  # as an earlier version leaves it
    assert work(half.parent, half.name) is None


def test_a_run_that_ends_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    for lock in (reusable_scratch, versioned_scratch):
        with pytest.raises(KeyboardInterrupt), lock(tmp_path, "f00d", on_wait=pytest.fail):
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    size = 1000
    for age, name in enumerate(("a", "b", "c")):
        work(tmp_path, name, "x" * size)
        os.utime(tmp_path / name / MARK, (1e9 + age, 1e9 + age))
    work(tmp_path, "a")  # used again, so no longer the oldest
    work(tmp_path, "d", "x" * size, limit=3 * (size + 64 + len(platform.node())))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"a", "c", "d"}
    assert not (tmp_path / "b.lock").exists()


def test_unfinished_work_and_what_is_in_use_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/checkpoint.pt").write_text("x" * 1000)
    work(tmp_path, "used")
    with FileLock(tmp_path / "used.lock"):
        work(tmp_path, "f00d", limit=0)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["unfinished", "used"]


def test_what_computes_is_the_source_and_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept_work.software_fingerprint.__wrapped__()
    assert before == kept_work.software_fingerprint() == kept_work.software_fingerprint.__wrapped__()
    monkeypatch.setattr(kept_work, "version", lambda name: "0.0")
    assert kept_work.software_fingerprint.__wrapped__() != before
    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"")
    assert kept_work.software_fingerprint.__wrapped__() != before
