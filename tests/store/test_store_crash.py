"""Killed at any point and resumed: finished chunks are not touched, and the bytes are those of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import preloaded
import pytest
import store_writing
from prepkd.cli import app
from prepkd.errors import InputError
from prepkd.store import LogitStore
from prepkd.store.layout import Layout
from prepkd.store.writer import StoreWriter
from store_checks import refused
from store_writing import LABELS, LAYOUT, answer, chunk_files, contents, identities, open_writer, write


def test_killed_before_each_fsync_and_rename(tmp_path: Path) -> None:
    """Every moment between two of the writer's steps on disk is tested, from the first to the last, not a sample of moments."""
    ran = subprocess.run(
        [preloaded.commands() / "python", "-W", "error", store_writing.__file__, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    # 2 chunks, 4 zarr.json and 2 more files: 12 renames with two fsyncs each, and one fsync per new folder.
    assert report["steps"] > 12 * 3
    assert sorted(set(report["finished"])) == [0, 1, 2], "the kills must fall before, between and after the chunks"
    assert report["touched"] == []
    assert report["different"] == []


def test_the_command_killed_when_a_chunk_appears(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = project / "data" / "logits" / "large.zarr"
    monkeypatch.chdir(project)
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "whole"))
    app(["cache-logits", "large"], standalone_mode=False)
    expected = contents(target)
    assert not list((tmp_path / "whole").iterdir()), "nothing is left of finished work"
    target.rename(tmp_path / "uninterrupted.zarr")

    scratch = tmp_path / "killed"
    monkeypatch.setenv("PREPKD_SCRATCH", str(scratch))
    finished: dict[str, tuple[int, int]] = {}
    for k in (1, 30):
        command = [sys.executable, "-c", "from prepkd.cli import main; main()", "cache-logits", "large"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 120
            while len(list(scratch.glob("*/store.zarr/logits/c/*/*/0"))) < k:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not target.exists()
        (work,) = scratch.glob("*/store.zarr")
        now = identities(work)
        assert finished.items() <= now.items(), "a resumed run touched a finished chunk"
        assert k <= len(now) // 3 < 9 * 7, "killed too late for the test to say anything"
        finished = now
        (work / "logits" / "c" / "0" / "0" / f"0.{'0123' * 8}.partial").write_bytes(b"torn")
    app(["cache-logits", "large"], standalone_mode=False)
    moved = identities(target)
    assert {path: moved[path] for path in finished} == finished
    assert contents(target) == expected
    assert not list(scratch.iterdir())

    # A second run has nothing to do, unless a byte is damaged.
    capsys.readouterr()
    app(["cache-logits", "large"], standalone_mode=False)
    assert "already finished" in capsys.readouterr().err
    assert identities(target) == moved
    chunk = chunk_files(target, 4, 3)["row_max"]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\xff")
    app(["cache-logits", "large"], standalone_mode=False)
    assert "already finished" not in capsys.readouterr().err
    assert contents(target) == expected


def half_written(folder: Path) -> StoreWriter:
    """Write five of a store's nine chunks."""
    writer = open_writer(folder)
    for view, chunk in list(writer.pending())[:5]:
        writer.write(view, chunk, answer(view, writer.layout.slice(chunk)))
    return writer


DAMAGES = {
    "a flipped bit": lambda content: content[:3] + bytes([content[3] ^ 16]) + content[4:],
    "a flipped bit of the checksum": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "cut short": lambda content: content[: len(content) // 2],
    "cut to the checksum's size": lambda content: content[:4],
    "cut below the checksum's size": lambda content: content[:3],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("array", ["logits", "params", "row_max"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_chunk_is_computed_again(tmp_path: Path, folder: Path, array: str, damage: str) -> None:
    work = tmp_path / "work"
    half_written(work)
    path = chunk_files(work, 0, 1)[array]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = identities(work)
    assert list(open_writer(work).pending())[:2] == [(0, 1), (1, 2)]
    write(work)
    after = identities(work)
    changed = {name for name, state in before.items() if after[name] != state}
    assert changed == {p.relative_to(work).as_posix() for p in chunk_files(work, 0, 1).values()}
    assert contents(work) == contents(folder)


@pytest.mark.parametrize("array", ["logits", "params", "row_max"])
def test_a_deleted_file_of_a_finished_chunk_is_computed_again(tmp_path: Path, folder: Path, array: str) -> None:
    work = tmp_path / "work"
    half_written(work)
    chunk_files(work, 1, 0)[array].unlink()
    write(work)
    assert contents(work) == contents(folder)


def test_parameters_of_another_chunk_are_not_taken_for_finished(tmp_path: Path, folder: Path) -> None:
    work = tmp_path / "work"
    writer = half_written(work)
    one, other = (chunk_files(work, 0, chunk)["params"] for chunk in (0, 1))
    other.write_bytes(one.read_bytes())
    assert not writer.done(0, 1)
    write(work)
    assert contents(work) == contents(folder)


def test_leftovers_do_no_harm(tmp_path: Path, folder: Path) -> None:
    work = tmp_path / "work"
    half_written(work)
    for key in ("logits/c/0/0/0", "row_max/c/2", "manifest.json", "zarr.json"):
        leftover = f"{key}.{'1f' * 16}.partial"
        (work / leftover).parent.mkdir(parents=True, exist_ok=True)
        (work / leftover).write_bytes(b"torn")
    write(work)
    assert contents(work) == contents(folder)


@pytest.mark.parametrize("missing", ["logits/zarr.json", "row_max/zarr.json"])
def test_killed_while_the_arrays_were_being_described(tmp_path: Path, folder: Path, missing: str) -> None:
    """An array's description is only missing before the first chunk is written."""
    work = tmp_path / "work"
    open_writer(work)
    (work / missing).unlink()
    write(work)
    assert contents(work) == contents(folder)


def test_an_unfinished_store_is_refused_by_its_reader(tmp_path: Path) -> None:
    half_written(tmp_path / "work")
    text = refused(InputError, LogitStore.open, tmp_path / "work")
    assert text == (
        f"{tmp_path / 'work'}: no manifest.json, so there is no finished store; run `prepkd cache-logits NAME` again"
    )


def test_a_second_run_that_finds_all_chunks_only_finishes(tmp_path: Path, folder: Path) -> None:
    work = tmp_path / "work"
    write(work)
    (work / "manifest.json").unlink()
    before = identities(work)
    assert list(open_writer(work).pending()) == []
    open_writer(work).finish(LABELS)
    assert identities(work) == before
    assert contents(work) == contents(folder)


def test_chunks_of_another_length_are_another_stores(tmp_path: Path) -> None:
    """The attributes agree, but the files would not."""
    work = tmp_path / "work"
    half_written(work)
    before = contents(work)
    longer = Layout(LAYOUT.plan, LAYOUT.encoding, 11)
    text = refused(InputError, open_writer, work, longer)
    assert text == f"{work}: holds another store's chunks; remove it and run again"
    assert contents(work) == before


@pytest.mark.parametrize("file", ["zarr.json", "logits/zarr.json"])
def test_a_torn_description_is_written_anew(tmp_path: Path, folder: Path, file: str) -> None:
    work = tmp_path / "work"
    open_writer(work)
    (work / file).write_bytes((work / file).read_bytes()[:40])
    write(work)
    assert contents(work) == contents(folder)
