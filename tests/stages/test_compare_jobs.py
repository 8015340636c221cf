"""`prepkd compare --jobs N` trains several seeds of the grid at once; its files equal those of sequential runs byte for byte."""

import shutil
from pathlib import Path

import pytest
from commands import enter
from whole_project import prepkd

RUNS = "results/compare/runs"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(whole_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the whole project without results of the comparison, and without seeds kept in scratch."""
    for name in ("data", "models", "params.yaml"):
        copy = shutil.copytree if (whole_project / name).is_dir() else shutil.copy
        copy(whole_project / name, tmp_path / name)
    return enter(tmp_path, monkeypatch)


def test_the_files_are_those_of_one_run_after_another(whole_project: Path, project: Path) -> None:
    said = prepkd("compare", "--jobs", "2")
    assert "kd, seed 0" in said and "kd, seed 1" in said
    assert files(project / "results/compare") == files(whole_project / "results/compare")
    assert "1 of 1 runs are finished" in prepkd("compare", "--jobs", "2")


def test_a_training_that_fails_is_reported_and_the_others_finish(whole_project: Path, project: Path) -> None:
    said = prepkd("compare", "--jobs", "2", code=2, compare__runs='["kd,weights=none.pth", kd]')
    ends = [line for line in said.splitlines() if line.startswith("kd,weights=none.pth, seed ")]
    assert len(ends) == 2 and all("none.pth" in line for line in ends), said
    assert "error: 2 of 4 trainings have failed; finished ones are kept" in said
    assert files(project / RUNS) == files(whole_project / RUNS)
    assert not (project / "results/compare/table.md").exists()


def test_the_seeds_of_one_run(whole_project: Path, project: Path) -> None:
    prepkd("compare", "--run", "kd", "--jobs", "2")
    assert files(project / "results") == {
        name: content for name, content in files(whole_project / "results").items() if name.startswith("compare/runs/")
    }


def test_a_finished_run_of_other_settings_is_not_replaced_unasked(project: Path) -> None:
    prepkd("compare", "--run", "kd", "--jobs", "2")
    before = files(project / RUNS)
    said = prepkd("compare", "--run", "kd", "--jobs", "2", "-S", "distill.lr=0.02", code=2)
    assert "holds a finished run" in said and files(project / RUNS) == before
    prepkd("compare", "--run", "kd", "--jobs", "2", "-S", "distill.lr=0.02", "--replace")
    assert files(project / RUNS) != before


def test_more_threads_than_processors_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.engines.engine.processors", lambda: 2)
    monkeypatch.setattr("prepkd.stages._grid.train_grid", lambda *_, **__: None)
    said = prepkd("compare", "--run", "kd", "--jobs", "2", "-S", "threads=2")
    assert "2 jobs of 2 threads share 2 processors; `threads: 1` is faster" in said
    assert "warning" not in prepkd("compare", "--run", "kd", "--jobs", "2", "-S", "threads=1")
    said = prepkd("compare", "--run", "kd", "--jobs", "3", "-S", "threads=1")  # fewer threads are not possible
    assert "3 jobs of 1 thread share 2 processors; `--jobs 2` is enough" in said and "is faster" not in said


def test_options_that_exclude_one_another(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "add -S devices=1" in prepkd("compare", "--jobs", "2", "-S", "devices=2", code=2)
    assert "--measure trains nothing" in prepkd("compare", "--measure", "x", "--jobs", "2", code=2)
    assert "--add adds rows" in prepkd("compare", "--run", "kd", "--add", "x=y", code=2)
    assert "--jobs is for this machine" in prepkd("compare", "--jobs", "2", "--engine", "ray", code=2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "without torchrun" in prepkd("compare", "--jobs", "2", code=2)
