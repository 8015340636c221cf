"""Checks of the machine and the project: findings, remedies and the exit code."""

import json
import os
import resource
from collections import namedtuple
from pathlib import Path
from typing import Any

import elsewhere_files as files
import pytest
import torch
from commands import ROOT, enter, invoke, run
from prepkd.doctor import disk, machine, packages, repository
from prepkd.doctor.check import Check, CheckVerdict, error
from prepkd.project.params import load_params
from prepkd.stages import doctor as stage

Usage = namedtuple("Usage", "total used free")


def test_a_pair_that_was_not_made_for_each_other_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.torch_pair().verdict is CheckVerdict.OK, packages.torch_pair()
    monkeypatch.setattr(packages, "requires", lambda name: ["numpy", "torch==1.2.3"])
    found = packages.torch_pair()
    assert (
        found.verdict is CheckVerdict.ERROR and "made for torch 1.2.3" in found.found and "torchvision" in found.remedy
    )


def test_versions_of_cuda_are_compared_in_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.cuda_version(13020) == packages.cuda_version("13.2") == "13.2"
    assert packages.cuda_version(12080) == "12.8" and packages.cuda_version(None) is None
    monkeypatch.setattr(packages, "cuda_version", lambda stated: "12.8" if isinstance(stated, str) else "13.0")
    monkeypatch.setattr(torch.version, "cuda", "12.8")  # as in a build with CUDA
    assert "built for CUDA 12.8 and 13.0" in packages.torch_pair().found


def test_a_platform_without_tests_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, verdict in (("Linux", CheckVerdict.OK), ("Darwin", CheckVerdict.WARNING)):
        monkeypatch.setattr(os, "uname", lambda system=system: os.uname_result((system, "here", "6.1", "#1", "x86_64")))
        assert machine.platform().verdict is verdict and system in machine.platform().found


def test_no_gpu_is_no_fault_but_one_that_torch_cannot_use_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert machine.gpu().verdict is CheckVerdict.OK
    (tmp_path / "version").touch()
    for built, remedy in ((None, "CUDA build of torch"), ("13.2", "nvidia-smi")):
        monkeypatch.setattr(torch.version, "cuda", built)
        assert machine.gpu().verdict is CheckVerdict.WARNING and remedy in machine.gpu().remedy
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpu().verdict is CheckVerdict.OK


def test_without_a_compiler_training_is_only_slower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    found = machine.compiler()
    assert found.verdict is CheckVerdict.WARNING and "g++" in found.remedy
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path / "include"))
    assert "no " in machine.compiler().found and "python3-dev" in machine.compiler().remedy
    (tmp_path / "include").mkdir()
    (tmp_path / "include/Python.h").touch()
    assert machine.compiler().verdict is CheckVerdict.OK


@pytest.mark.parametrize(
    ("soft", "hard", "verdict"), [(64, 4096, "error"), (512, 4096, "warning"), (1024, 4096, "ok"), (-1, -1, "ok")]
)
def test_the_limit_of_open_files(soft: int, hard: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    found = machine.open_files()
    assert found.verdict == verdict and bool(found.remedy) == (verdict != "ok")


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.shared_memory(tmp_path / "none").verdict is CheckVerdict.WARNING
    for free, verdict in ((2**26, CheckVerdict.WARNING), (2**31, CheckVerdict.OK)):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: Usage(2**33, 0, free))
        assert machine.shared_memory(tmp_path).verdict is verdict


def test_room_for_the_store() -> None:
    enough = disk.room(1000, 0, 5000, copied=True)
    assert enough.verdict is CheckVerdict.OK and enough.found == "1.00 kB planned, 0 bytes there, 5.00 kB free"
    copied = disk.room(3000, 0, 5000, copied=True)
    assert copied.verdict is CheckVerdict.WARNING and "1.00 kB missing" in copied.found and "hardlink" in copied.remedy
    assert disk.room(3000, 0, 5000, copied=False).verdict is CheckVerdict.OK
    full = disk.room(9000, 0, 5000, copied=False)
    assert full.verdict is CheckVerdict.ERROR and "4.00 kB missing" in full.found and "cache.encoding" in full.remedy
    assert disk.room(9000, 8000, 5000, copied=False).verdict is CheckVerdict.OK, "what is there needs no room again"


def test_room_is_not_known_before_the_data_and_not_asked_of_a_bucket(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml", [])
    found = disk.store_room(params, tmp_path / "none.h5", {}, copied_by_dvc=False)
    assert found.verdict is CheckVerdict.WARNING and "prepkd prepare" in found.remedy
    remote = load_params(ROOT / "params.yaml", ["cache.root=s3://bucket/stores"])
    assert disk.store_room(remote, tmp_path / "none.h5", {}, copied_by_dvc=False).verdict is CheckVerdict.OK


def test_only_the_planned_stores_count_as_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.digits(Path("data/digits.h5"))
    params = load_params(ROOT / "params.yaml", ["cache.features=[pooled]"])
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 10)
    stores = {name: f"data/logits/{name}.zarr" for name in params.all_teachers}

    def found() -> Check:
        return disk.store_room(params, Path("data/digits.h5"), stores, copied_by_dvc=False)

    write(Path("data/logits/foreign.zarr/c/0"), 10**9)
    assert found().verdict is CheckVerdict.ERROR and " planned, 0 bytes there, " in found().found
    write(Path("data/logits/large.zarr/c/0"), 10**9)
    assert found().verdict is CheckVerdict.ERROR, "larger than planned: no room for the features"
    write(Path("data/features/large/pooled.zarr/c/0"), 10**9)
    assert found().verdict is CheckVerdict.OK
    params = load_params(ROOT / "params.yaml", ["cache.features=[pooled]", "cache.features_root=s3://bucket/features"])
    assert found().verdict is CheckVerdict.OK, "features in a bucket need no room"


def write(path: Path, size: int) -> None:
    """Write a sparse file of a size in bytes."""
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_a_file_that_vanishes_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").write_bytes(b"12345")
    (tmp_path / "gone").symlink_to(tmp_path / "none")
    assert disk.held_bytes(tmp_path) == 5
    walk = os.walk

    def emptied(folder: Path) -> Any:
        for found in walk(folder):
            (tmp_path / "whole").unlink()
            yield found

    monkeypatch.setattr(os, "walk", emptied)
    assert disk.held_bytes(tmp_path) == 0


def test_git_and_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CEILING_DIRECTORIES",):
        monkeypatch.setenv(name, str(tmp_path.parent))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@b.c")
    assert "no repository" in repository.git_state(tmp_path).found
    assert "no DVC project" in repository.dvc_state(tmp_path).found and not repository.copies(tmp_path)
    run("git init -q && dvc init -q", tmp_path)
    assert "nothing is committed" in repository.git_state(tmp_path).found
    run("git commit -qm first", tmp_path)
    assert repository.git_state(tmp_path).verdict is CheckVerdict.OK
    assert "no dvc.yaml" in repository.dvc_state(tmp_path).found
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: 'true'}}")
    found = repository.dvc_state(tmp_path)
    assert found.verdict is CheckVerdict.OK and "1 stages" in found.found
    (tmp_path / "dvc.yaml").write_text("stages: {one: 5}")
    assert repository.dvc_state(tmp_path).verdict is CheckVerdict.ERROR
    assert repository.copies(tmp_path)
    run("dvc config cache.type hardlink,copy", tmp_path)
    assert not repository.copies(tmp_path)


def test_the_exit_code_is_0_unless_prepkd_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    done = invoke("doctor", columns=60)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 60 and "prepkd init" in " ".join(done.stdout.split())
    (tmp_path / "params.yaml").write_text("nothing: here")
    done = invoke("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["fails"]
    (settings,) = [one for one in found["checks"] if one["name"] == "settings"]
    assert settings["verdict"] == "error" and "params.yaml" in settings["found"]
    monkeypatch.setattr(stage, "checks", lambda *asked: iter([error("gpu", "it burns", "water")]))
    done = invoke("doctor", "--quiet")
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.startswith("error: gpu: ")
