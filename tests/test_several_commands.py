"""The commands of docs/how-to/several-processes.md report, write results and fail once, and resume when killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from commands import environment, run, together
from prepkd.runtime import distributed
from safetensors.torch import load_file

PARAMS = """
threads: 1
prepare: {dataset: digits, subset: 12}
augment: [{crop: {padding: 1}}]
teachers: {large: {model: convnet16, epochs: 6, batch_size: 16, lr: 0.02, precision: float32, checkpoint_every: 1}}
cache: {views: 2, batch_size: 64}
distill: {teacher: large, student: convnet4, method: ka-ps+dtd-flsw, epochs: 3, batch_size: 16, lr: 0.02, seeds: 2,
  precision: float32}
compare: {runs: [kd]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose teacher, store and students were made by one process."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "params.yaml").write_text(PARAMS)
    run("prepkd prepare && prepkd train-teacher large && prepkd cache-logits large && prepkd distill", folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` without its scratch folder."""
    return shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns(".prepkd-scratch"))


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def close(ours: Path, theirs: Path) -> None:
    """Assert that weights differ by rounding only, and do differ: equal ones would mean that nothing was trained again."""
    one, other = weights(ours), weights(theirs)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_two_processes_train_teacher_and_students_of_one(project: Path, made: Path) -> None:
    (first, said), (second, other) = together(2, "prepkd", "train-teacher", "large", "--replace", cwd=project)
    assert (first, second) == (0, 0), said + other
    assert other == "" and said.count("models/teachers/large: convnet16, test top-1") == 1
    close(project / "models/teachers/large", made / "models/teachers/large")
    shutil.copytree(made / "models/teachers/large", project / "models/teachers/large", dirs_exist_ok=True)
    for source in ("cached", "online"):
        command = ("distill", "--replace", "-S", f"distill.source={source}")
        (first, said), (second, other) = together(2, "prepkd", *command, cwd=project)
        assert (first, second) == (0, 0), said + other
        assert other == "" and said.count("models/student: ka-ps+dtd-flsw, 2 seeds") == 1
        for seed in ("seed0", "seed1"):
            close(project / "models/student" / seed, made / "models/student" / seed)
            assert len((project / "results/training" / seed / "plots/metrics/train/loss.tsv").read_text().split()) > 6
    assert "results/metrics.json" in run("prepkd evaluate 2>&1; ls results/metrics.json", project)


def test_two_processes_train_a_run_of_the_comparison(project: Path) -> None:
    (first, said), (second, other) = together(2, "prepkd", "compare", "--run", "kd", cwd=project)
    assert (first, second, other) == (0, 0, ""), said
    assert "kd" in run("prepkd compare", project)


def test_bad_input_is_reported_once(project: Path) -> None:
    (first, said), (second, other) = together(2, "prepkd", "distill", "--method", "nonsense", cwd=project)
    assert first == 2 and said.startswith("error: ") and len(said.splitlines()) == 1
    # No launcher ends the second process here, so it prints the error, too.
    assert second == 2 and other == said


def test_what_processes_do_not_share_is_left_to_the_first(project: Path) -> None:
    (first, said), (second, other) = together(2, "prepkd", "inspect", "data/logits/large.zarr", cwd=project)
    assert (first, second, other) == (0, 0, "") and "large" in said


def test_compiled_steps_are_refused_in_one_line(project: Path) -> None:
    command = ("prepkd", "distill", "--replace", "-S", "distill.compile=true")
    (first, said), _ = together(2, *command, cwd=project)
    assert first == 2 and "compile is true and 2 processes train together" in said


def test_a_killed_process_ends_the_others_and_torchrun_starts_them_again(project: Path, made: Path) -> None:
    """With `--max-restarts`, the stage resumes from its last checkpoint and reaches the weights of an undisturbed run."""
    undisturbed = together(2, "prepkd", "train-teacher", "large", "--replace", cwd=project)
    assert [code for code, _ in undisturbed] == [0, 0]
    expected = weights(project / "models/teachers/large")
    shutil.rmtree(project / "models/teachers/large")
    command = "torchrun --nproc-per-node 2 --max-restarts 3 -m prepkd train-teacher large -S teachers.large.epochs=6"
    with _running(command, project) as (started, output):
        first = _two_workers(started.pid)
        os.kill(first[0], signal.SIGKILL)  # before it has trained anything
        second = _two_workers(started.pid, after=first)
        checkpoint = _wait_for(project / ".prepkd-scratch")
        os.kill(second[-1], signal.SIGKILL)
        third = _two_workers(started.pid, after=second)
        os.kill(third[0], signal.SIGKILL)  # before it has read the checkpoint
        assert started.wait(timeout=300) == 0, output.read_text()
    assert not checkpoint.exists()  # removed at the end of the run
    found = weights(project / "models/teachers/large")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def _two_workers(parent: int, after: Sequence[int] = ()) -> list[int]:
    """Wait for torchrun's two workers, none of which is among `after`; return their process ids."""
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        found = [one.pid for one in psutil.Process(parent).children()]
        if len(found) == 2 and not set(found) & set(after):
            return found
        time.sleep(0.02)
    raise AssertionError("no two workers")


@contextlib.contextmanager
def _running(command: str, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start a command in a folder, with a file for its output; kill it and its descendants on exit."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        started = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment(installed=True, OMP_NUM_THREADS="1"),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield started, output
    finally:
        left = [] if started.poll() is not None else [psutil.Process(started.pid)]
        for process in [*left, *(one for parent in left for one in parent.children(recursive=True))]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()


def test_processes_that_are_started_again_share_nothing_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start has its own prefix: torchrun's static rendezvous keeps its store, with the addresses of dead processes."""
    found = []
    for local, world, count in (("2", "2", "0"), ("2", "2", "1"), ("2", "4", "0"), ("2", "4", "1")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        monkeypatch.setenv("WORLD_SIZE", world)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
        found.append(distributed.rendezvous_prefix())
    one_node, nodes = found[:2], found[2:]
    assert len(set(one_node)) == 2, "a name per start"
    assert len(set(nodes)) == 1, "each node counts its own starts"


def _wait_for(scratch: Path) -> Path:
    """Wait for a run's first checkpoint and return its path."""
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        for found in scratch.glob("*/checkpoint.pt"):
            return found
        time.sleep(0.02)
    raise AssertionError("no checkpoint")


def test_devices_start_the_processes_and_pass_on_their_exit_code(project: Path, made: Path) -> None:
    said = run("prepkd train-teacher large --replace -S devices=2", project, installed=True)
    assert said.count("models/teachers/large: convnet16, test top-1") == 1 and "Traceback" not in said
    close(project / "models/teachers/large", made / "models/teachers/large")
    said = run("prepkd train-teacher large -S devices=2 -S teachers.large.lr=0.01", project, code=2, installed=True)
    assert (
        said.splitlines() == [line for line in said.splitlines() if line.startswith("error: ")] and "--replace" in said
    )


def test_a_card_does_not_say_how_many_processes_trained_it(project: Path, made: Path) -> None:
    together(2, "prepkd", "train-teacher", "large", "--replace", cwd=project)
    ours, theirs = (json.loads((one / "models/teachers/large/model.json").read_text()) for one in (project, made))
    assert {key for key in ours if ours[key] != theirs[key]} <= {"weights_fingerprint", "test_top1", "sha256"}
