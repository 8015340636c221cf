"""Finished work that stays in scratch: only the same run finds it again."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from prepkd.runtime import reusable_scratch as kept_work
from prepkd.runtime.reusable_scratch import MARK, reusable_scratch


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


def test_work_of_other_code_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(tmp_path, "f00d", "first")
    monkeypatch.setattr(kept_work, "software_fingerprint", lambda: "0" * 64)
    assert work(tmp_path, "f00d", "second") is None
    assert work(tmp_path, "f00d") == "second"


def test_unfinished_work_goes_on_whatever_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished work, as after Ctrl-C, is resumed under other code: its checkpoint has a version of its own."""
    with pytest.raises(KeyboardInterrupt), reusable_scratch(tmp_path, "f00d", on_wait=print) as folder:
        (folder / "done").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "f00d" / MARK).exists()
    monkeypatch.setattr(kept_work, "software_fingerprint", lambda: "0" * 64)
    assert work(tmp_path, "f00d") == "half"


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    size = 1000
    for age, name in enumerate(("a", "b", "c")):
        work(tmp_path, name, "x" * size)
        os.utime(tmp_path / name / MARK, (1e9 + age, 1e9 + age))
    work(tmp_path, "a")  # used again, so no longer the oldest
    work(tmp_path, "d", "x" * size, limit=3 * (size + 64))
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
