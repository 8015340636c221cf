"""Disks that are full or read-only, several writers, and the order in which files reach the disk."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import fault_injection
import preloaded
import pytest
import two_writers
import typer
import worker_kills
from prepkd.cli import Commands, app
from prepkd.runtime.machine_faults import REMEDIES
from prepkd.store import LogitStore
from prepkd.store.integrity import damages
from store_writing import contents, identities
from typer.core import TyperGroup

CACHE = ["cache-logits", "large", "-S", "cache.chunk=32"]
CHUNKS = 9 * 4


def script(*arguments: object) -> dict[str, object]:
    """Run a script that forks in a clean process, so that no test thread is forked, and return its JSON output."""
    command = [preloaded.commands() / "python", "-W", "error", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def test_killed_again_and_again_while_others_read(tmp_path: Path) -> None:
    """A few of the kills counted in docs/explanation/crash-safety.md."""
    report = script(fault_injection.__file__, "--kills", 8, "--folder", tmp_path)
    assert report["faults"] == []
    assert sum(report["kills"].values()) >= 8  # type: ignore[attr-defined]
    reads: dict[str, int] = report["reads meanwhile"]  # type: ignore[assignment]
    assert any(kind.startswith("right") for kind in reads), f"nothing was read: {reads}"


def test_three_workers_killed_at_random_instants() -> None:
    """Two of the rounds counted in docs/explanation/crash-safety.md; PREPKD_ROUNDS asks for more, with new draws."""
    rounds = os.environ.get("PREPKD_ROUNDS")
    report = script(worker_kills.__file__, "--rounds", rounds or 2, "--seed", os.getpid() if rounds else 0)
    assert report["faults"] == [], report
    assert report["kills"], "none"


# A writer that takes every chunk for unfinished.
FORGETFUL = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from prepkd.store.writer import StoreWriter
StoreWriter.done = lambda *_: False
import fault_injection
fault_injection.main()
"""


def test_the_kills_find_a_writer_that_redoes_its_chunks(tmp_path: Path) -> None:
    command = [
        preloaded.commands() / "python",
        "-c",
        FORGETFUL,
        str(Path(__file__).parent),
        "--kills",
        "6",
        "--folder",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 1, ran.stderr
    faults = json.loads(ran.stdout)["faults"]
    assert faults and all(fault.endswith(": redone") for fault in faults), faults


def test_two_writers_of_one_store(tmp_path: Path) -> None:
    assert script(two_writers.__file__, tmp_path) == {
        "both wrote": [0, 0],
        "chunks": 9,
        "third finished": 0,
        "redone": False,
        "equal": True,
        "taken over": 0,
        # The killed writer had written the first and the third chunk, and was at the fifth.
        "refusal": f"{tmp_path / 'alone'}: view 1, chunk 1 is not finished; run again to resume",
        "redone after the kill": [],
        "equal after the kill": True,
    }


@pytest.fixture(scope="module")
def expected(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted run."""
    root = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("PREPKD_SCRATCH", str(root / "scratch"))
        app([*CACHE, "-S", f"cache.root={root}"], standalone_mode=False)
    return contents(root / "large.zarr")


def mount(*arguments: object) -> None:
    ran = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip(f"needs the right to mount a small disk: {ran.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk that is too small for the store: its 108 chunk files take a page of 4 KiB each."""
    if shutil.which("mount") is None:
        pytest.skip("needs `mount` for a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=200k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", folder], check=True)


class Run(NamedTuple):
    code: int
    lines: list[str]


CacheLogits = Callable[[Path, Path], Run]


@pytest.fixture
def cache_logits(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CacheLogits:
    """Return a function that runs the command with a scratch folder and a folder for the store."""
    monkeypatch.chdir(project)

    def run(scratch: Path, root: Path) -> Run:
        monkeypatch.setenv("PREPKD_SCRATCH", str(scratch))
        capsys.readouterr()
        code = app([*CACHE, "-S", f"cache.root={root}"], standalone_mode=False)
        return Run(code or 0, capsys.readouterr().err.splitlines())

    return run


def fails_with(error: OSError) -> Callable[..., None]:
    """Return a call of the command line whose command raises this error."""

    def call() -> None:
        with mock.patch.object(TyperGroup, "invoke", side_effect=error):
            Commands().invoke(None)

    return call


def test_an_error_that_a_person_can_mend_names_the_file_and_others_keep_their_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in REMEDIES:
        with pytest.raises(typer.Exit) as caught:
            fails_with(OSError(number, os.strerror(number), "here"))()
        assert caught.value.exit_code == 2
        assert capsys.readouterr().err == f"error: here: {os.strerror(number)}; {KEPT.format(REMEDIES[number])}\n"
    with pytest.raises(typer.Exit):  # the second path of a copy or a rename is the written one
        fails_with(OSError(errno.ENOSPC, "full", "one", None, "other"))()
    assert capsys.readouterr().err.startswith("error: other: full; ")
    for error in (FileNotFoundError(errno.ENOENT, "none", "here"), OSError("no number")):
        with pytest.raises(OSError) as other:
            fails_with(error)()
        assert other.value is error


KEPT = "finished work is kept: {}, then run the same command again"


def test_a_full_disk_is_one_line_and_the_work_goes_on_once_there_is_room(
    cache_logits: CacheLogits, disk: Path, expected: dict[str, bytes]
) -> None:
    before: dict[str, tuple[int, int]] = {}
    for _ in range(2):  # the disk stays full for the second run
        code, lines = cache_logits(disk / "scratch", disk)
        assert code == 2
        errors = [line for line in lines if line.startswith("error: ")]
        (work,) = disk.glob("scratch/*/store.zarr")
        assert errors == lines[-1:]
        assert re.fullmatch(
            rf"error: {work.parent}/\S+: No space left on device; {KEPT.format('make room')}", errors[0]
        ), errors
        assert not list(disk.rglob("*.partial"))
        assert not (disk / "large.zarr").exists()
        chunks = [file for file in identities(work) if file.startswith("logits/")]
        assert 0 < len(chunks) < CHUNKS
        assert before.items() <= identities(work).items(), "a finished chunk was redone"
        before = identities(work)
    mount("-o", "remount,size=8m", disk)
    assert cache_logits(disk / "scratch", disk).code == 0
    after = identities(disk / "large.zarr")
    assert {file: after[file] for file in before} == before
    assert contents(disk / "large.zarr") == expected
    assert not list((disk / "scratch").iterdir())


def test_a_disk_too_small_for_the_prepared_data(
    project: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HDF5 itself would crash the process."""
    mount("-o", "remount,size=64k", disk)
    shutil.copy(project / "params.yaml", disk)
    monkeypatch.chdir(disk)
    capsys.readouterr()
    assert app(["prepare", "-S", "prepare.subset=null"], standalone_mode=False) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"error: \S*digits\.h5\S*: No space left on device; {KEPT.format('make room')}", error), error
    assert not [path for path in (disk / "data").iterdir()], "nothing half-written"
    mount("-o", "remount,size=8m", disk)
    assert not app(["prepare", "-S", "prepare.subset=null"], standalone_mode=False)
    assert (disk / "data/digits.h5").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("option", "mend", "why", "remedy"),
    [
        ("size=200k", "size=8m", "No space left on device", "make room"),
        ("ro", "rw,size=8m", "Read-only file system", "make it writable"),
    ],
)
def test_a_store_that_can_not_be_moved_to_its_place_waits_in_scratch(
    cache_logits: CacheLogits,
    disk: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    option: str,
    mend: str,
    why: str,
    remedy: str,
) -> None:
    mount("-o", f"remount,{option}", disk)
    code, lines = cache_logits(tmp_path / "scratch", disk)
    assert code == 2
    assert re.fullmatch(rf"error: {disk}/\S+: {why}; {KEPT.format(remedy)}", lines[-1]), lines
    assert not list(disk.iterdir()), "a full disk must not be left fuller"
    (work,) = tmp_path.glob("scratch/*/store.zarr")
    assert contents(work) == expected
    mount("-o", f"remount,{mend}", disk)
    code, lines = cache_logits(tmp_path / "scratch", disk)
    assert code == 0
    assert any("0 chunks written" in line for line in lines), lines
    assert contents(disk / "large.zarr") == expected


def test_read_only(cache_logits: CacheLogits, disk: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A finished store on a read-only disk can be read, and a writer there is refused."""
    mount("-o", "remount,size=8m", disk)
    assert cache_logits(disk / "scratch", disk).code == 0
    mount("-o", "remount,ro", disk)
    store = LogitStore.open(disk / "large.zarr")
    assert store.logits(8).shape == (store.samples, 10)
    assert damages(disk / "large.zarr") == []
    code, lines = cache_logits(disk / "scratch", tmp_path)
    assert code == 2
    assert re.fullmatch(
        rf"error: {disk}/scratch\S*: Read-only file system; {KEPT.format('make it writable')}", lines[-1]
    )
    assert contents(disk / "large.zarr") == expected


def test_the_command_while_another_does_the_same(
    cache_logits: CacheLogits, project: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """The second command, for another place, joins the first: each writes a part, and both have the store."""
    environment = os.environ | {"PREPKD_SCRATCH": str(tmp_path / "scratch")}
    streams: dict[str, Any] = {"cwd": project, "env": environment, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "prepkd", *CACHE]
    with subprocess.Popen([*command, "-S", f"cache.root={tmp_path}"], **streams) as first:
        try:
            while not list(tmp_path.glob("scratch/*/store.zarr/logits/c/*/*/0")):
                assert first.poll() is None, first.stderr and first.stderr.read()
                time.sleep(0.002)
            first.send_signal(signal.SIGSTOP)
            with subprocess.Popen([*command, "-S", f"cache.root={tmp_path}/second"], **streams) as second:
                while len(list(tmp_path.glob("scratch/*/store.zarr/logits/c/*/*/0"))) < CHUNKS - 4:
                    assert second.poll() is None, second.stderr and second.stderr.read()
                    time.sleep(0.002)
                first.send_signal(signal.SIGCONT)
                _, rest = second.communicate(timeout=300)
        finally:
            first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=300)
    assert first.returncode == second.returncode == 0
    counts = [int(re.findall(r"large.zarr: (\d+) chunks written", text)[0]) for text in (said, rest)]
    assert sum(counts) == CHUNKS and min(counts) > 0, "no chunk was computed twice"
    assert contents(tmp_path / "large.zarr") == contents(tmp_path / "second" / "large.zarr") == expected
    assert not list((tmp_path / "scratch").iterdir())
