"""Faults of the machine give one line with a remedy: never a traceback, and never a report of damaged data."""

import errno
import fcntl
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import h5py
import numpy as np
import pytest
import torch
from commands import enter
from prepkd.cli import app
from prepkd.data.prepared.file import describe, load_split
from prepkd.data.prepared.prepare import prepare
from prepkd.data.sources import SOURCES
from prepkd.data.sources.raw import RawData
from prepkd.errors import InputError
from prepkd.project.outputs import prepared_data
from prepkd.report.page import offline_page
from prepkd.runtime import clock
from prepkd.runtime.clock import elapsed
from prepkd.runtime.machine_faults import REMEDIES, explained
from prepkd.runtime.outputs import refuse_foreign as refuse_foreign_outputs
from prepkd.runtime.scratch import scratch
from small_training import fit, settings
from typer.testing import CliRunner
from whole_project import SETTINGS


class PanicException(BaseException):
    """A panic as a Rust library raises it."""


MEMORY, THREADS, FILES = (REMEDIES[number] for number in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE))
ERRORS = {
    "a thread": (RuntimeError("can't start new thread"), THREADS),
    "a process": (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), THREADS),
    "oneDNN": (RuntimeError("could not create a primitive"), MEMORY),
    "torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), MEMORY),
    "a GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."), MEMORY),
    "NumPy": (MemoryError("Unable to allocate 9 GiB for an array"), MEMORY),
    "Python": (MemoryError(), MEMORY),
    "a library": (ImportError("libx.so: cannot open shared object file: Too many open files"), FILES),
    "mapping a library": (OSError("libx.so: failed to map segment from shared object"), MEMORY),
    "Rust": (PanicException('called on an `Err` value: Os { code: 24, message: "Too many open files" }'), FILES),
    "files": (OSError(errno.EMFILE, "Too many open files", "here"), FILES),
    "a file's size": (OSError(errno.EFBIG, "File too large", "here"), REMEDIES[errno.EFBIG]),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_command_that_runs_out_of_something_says_so_in_one_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, remedy = ERRORS[kind]

    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr("prepkd.cli.import_module", fails)
    done = CliRunner().invoke(app, ["prepare"])
    assert done.exit_code == 2 and done.output.startswith("error: ") and len(done.output.splitlines()) == 1
    assert done.output.endswith(f"; finished work is kept: {remedy}, then run the same command again\n")
    assert not done.output.startswith("error: ;"), "what happened is said, even if the error says nothing"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "here"),
        ImportError("cannot import name 'x'"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert explained(error) is None


def test_an_exit_that_code_of_others_asks_for_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(name: str) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("prepkd.cli.import_module", leaves)
    done = CliRunner().invoke(app, ["prepare"])
    assert done.exit_code == 2
    assert done.output == "error: sys.exit(0) was called by code that prepkd runs; the work is not done\n"


# Locks, and too few file descriptors


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    images, labels = np.zeros((4, 5, 5, 3), dtype=np.uint8), np.arange(4) % 2
    data = RawData("h5", images, labels, images + 1, labels, ("a", "b"), "made up")
    prepare(data, val_fraction=0, subset=None, seed=0, path=tmp_path / "data.h5")
    return tmp_path / "data.h5"


@pytest.fixture
def locked() -> Iterator[Callable[[Path], None]]:
    """Hold a file's lock, as a process writing the file does; a file system without locks gives the same error."""
    held = []

    def lock(path: Path) -> None:
        held.append(path.open("rb"))
        fcntl.flock(held[-1], fcntl.LOCK_EX)

    yield lock
    for file in held:
        file.close()


def test_prepared_data_are_read_without_a_lock(prepared: Path, locked: Callable[[Path], None]) -> None:
    locked(prepared)
    assert describe(prepared).splits == {"train": 4, "test": 4}
    assert load_split(prepared, "test").images.sum() == 4 * 75


def test_a_lock_that_the_environment_insists_on_is_named_as_such(
    prepared: Path, locked: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 reads HDF5_USE_FILE_LOCKING=TRUE at start, and it takes precedence over the program's own setting."""
    insisting = h5py.File
    monkeypatch.setattr(h5py, "File", lambda path, mode, locking: insisting(path, mode, locking=True))
    refuse_foreign_outputs(prepared_data(prepared))
    locked(prepared)
    for read in (lambda: describe(prepared), lambda: refuse_foreign_outputs(prepared_data(prepared))):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value).startswith(f"{prepared}: can't be locked for reading: another process writes it")


def test_a_lock_on_raw_arrays_is_named_as_such(tmp_path: Path, locked: Callable[[Path], None]) -> None:
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        file["train/images"] = np.zeros((4, 5, 5), dtype=np.uint8)
    locked(path)
    with pytest.raises(InputError) as caught:
        SOURCES["h5"].read(path)
    assert str(caught.value) == (
        f"{path}: can't be locked for reading: another process writes it, or its file system has no locks; "
        "wait for the writer, or set HDF5_USE_FILE_LOCKING=FALSE"
    )


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[], None]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust() -> None:
        free = os.open(os.devnull, os.O_RDONLY)  # the lowest free number
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))

    yield exhaust
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("read", [describe, SOURCES["h5"].read], ids=["prepared", "raw"])
def test_too_few_file_descriptors_are_not_damage(
    read: Callable[[Path], object], prepared: Path, no_descriptors: Callable[[], None]
) -> None:
    no_descriptors()
    with pytest.raises(OSError) as caught:
        read(prepared)
    assert (caught.value.errno, caught.value.filename) == (errno.EMFILE, str(prepared))


def test_the_page_of_plots_needs_descriptors_before_it_begins(no_descriptors: Callable[[], None]) -> None:
    """Without the check, the library that bundles the page's scripts would panic."""
    no_descriptors()
    with pytest.raises(OSError) as caught:
        offline_page()
    assert caught.value.errno == errno.EMFILE


def test_evaluate_with_few_file_descriptors_keeps_what_is_there(
    whole_project: Path, tmp_path: Path, no_descriptors: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the descriptors run out, the command reports in one line or succeeds; a later run with enough succeeds."""
    project = enter(shutil.copytree(whole_project, tmp_path / "project"), monkeypatch)

    def files() -> dict[Path, bytes]:
        outputs = [project / "results/metrics.json", *(project / "models").rglob("*")]
        return {path: path.read_bytes() for path in outputs if path.is_file()}

    before = files()
    enough, ended = resource.getrlimit(resource.RLIMIT_NOFILE), []
    for spare in (0, 1, 2, 4, 8, 16):
        no_descriptors()
        lowest, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, most))
        done = commands.invoke("evaluate", **SETTINGS)
        resource.setrlimit(resource.RLIMIT_NOFILE, enough)
        ended.append(done.exit_code)
        assert done.exit_code in (0, 2), (spare, done.output, done.exception)
        if done.exit_code == 2:
            assert done.output.startswith("error: ") and done.output.count("\n") == 1, (spare, done.output)
            assert FILES in done.output, (spare, done.output)
        assert files() == before
    assert ended[0] == 2
    assert commands.prepkd("evaluate", **SETTINGS) and files() == before


COMPUTING = [
    ["cache-logits", "large", "--replace", "-S", "cache.encoding=u8"],
    ["distill", "--replace", "--method", "ka-ps"],
    ["compare", "--run", "ka-ps"],
]


@pytest.mark.parametrize("arguments", COMPUTING, ids=lambda arguments: arguments[0])
def test_a_command_for_which_no_thread_is_left_keeps_what_is_there(
    arguments: list[str], whole_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of threads is reached during the work: Python raises its own error from its own call."""
    project = enter(shutil.copytree(whole_project, tmp_path / "project"), monkeypatch)

    def finished() -> dict[Path, bytes]:
        found = [path for folder in ("models", "data", "results") for path in (project / folder).rglob("*")]
        return {path: path.read_bytes() for path in found if path.is_file()}

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = finished()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        done = commands.invoke(*arguments, **SETTINGS)
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.output.splitlines()[-1].startswith("error: can't start new thread; finished work is kept: ")
    assert THREADS in done.output and "Traceback" not in done.output
    assert finished() == before
    commands.prepkd(*arguments, **SETTINGS)
    assert finished() != before


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES, errno.ENOLCK], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_not_waited_for(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    expected = OSError if number == errno.ENOLCK else InputError
    with pytest.raises(expected) as caught, scratch(tmp_path, "f00d", on_wait=pytest.fail):
        pytest.fail("without a lock, two processes would write the same files")
    line = explained(caught.value) or str(caught.value)
    assert "PREPKD_SCRATCH" in line and "no locks" in line


# The clock


@pytest.mark.parametrize("step", [0.0, -1.0])
def test_a_clock_that_stands_still_or_goes_back(step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(np.arange(9, 10**6) * step + 10**7)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: float(next(times)))
    assert elapsed(time.perf_counter()) > 0
    _, history = fit(tmp_path / "run.pt", settings(epochs=2))
    assert len(history) == 2 and all(0 < row["samples_per_second"] < float("inf") for row in history)
