"""Sweeps as DVC runs them: a queue with two workers, one that fails, and what is done with the results."""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from test_pipeline import edit_params, run, stop_workers, wait_for_queue

BAD = "ka-ps+ka-lsr"  # exclude each other


def shrink(params: dict) -> None:
    params["prepare"]["subset"] = 12
    params["teachers"]["teacher"].update(model="convnet4", epochs=2)
    params["distill"].update(student="convnet4", epochs=2, seeds=1)
    params["compare"].update(students=["convnet4"], runs=["kd"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new user's project after its first run, with a hub and a DVC remote beside it."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    folder.mkdir()
    run("git init -q --bare -b main ../hub.git && git init -q -b main", folder)
    run("git config user.email a@b.c && git config user.name a && git remote add origin ../hub.git", folder)
    run("prepkd init && dvc remote add -q -d shared ../../remote", folder)  # relative to .dvc
    edit_params(folder, shrink)
    run("dvc repro -q && dvc repro -q compare/dvc.yaml && git add -A && git commit -qm first", folder)
    run("git push -q origin main && dvc push -q", folder)
    yield folder
    stop_workers(folder)


@pytest.fixture(scope="module")
def sweep(project: Path) -> pd.DataFrame:
    """Three methods with a new teacher, which both workers want at once; one of them is impossible. What `exp show` says."""
    run(f"dvc exp run --queue -S 'distill.method=kd,ka-ps,{BAD}' -S teachers.teacher.seed=1", project)
    run("dvc queue start -j 2", project)
    wait_for_queue(project, failed=1)
    return experiments(project)


def experiments(folder: Path) -> pd.DataFrame:
    """The rows of `dvc exp show` that are experiments, by name."""
    shown = pd.read_csv(io.StringIO(run("dvc exp show --csv 2>/dev/null", folder)))
    return shown[shown["typ"].str.startswith("branch_")].set_index("Experiment")


def lock(folder: Path, revision: str) -> dict:
    return YAML(typ="safe").load(run(f"git show {revision}:dvc.lock", folder))["stages"]


def outputs(stage: dict) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in stage["outs"]}


def revision(sweep: pd.DataFrame, method: str) -> str:
    (found,) = sweep[(sweep["distill.method"] == method) & sweep["top1.mean"].ne("!")]["rev"]
    return str(found)


def name(sweep: pd.DataFrame, method: str) -> str:
    (found,) = sweep.index[(sweep["distill.method"] == method) & sweep["top1.mean"].ne("!")]
    return str(found)


def test_the_good_have_their_figures_and_the_teacher_was_trained_once(project: Path, sweep: pd.DataFrame) -> None:
    good, other = (lock(project, revision(sweep, method)) for method in ("kd", "ka-ps"))
    for stage in ("prepare", "train-teacher@teacher", "cache-logits@teacher"):
        assert outputs(good[stage]) == outputs(other[stage])
    assert outputs(good["distill"]) != outputs(other["distill"])
    assert outputs(good["prepare"]) == outputs(lock(project, "main")["prepare"])
    assert outputs(good["train-teacher@teacher"]) != outputs(lock(project, "main")["train-teacher@teacher"])
    for method in ("kd", "ka-ps"):
        assert 0 <= float(sweep.loc[name(sweep, method), "top1.mean"]) <= 1
    # Both workspaces worked in the project's own scratch, and left nothing there.
    assert not list((project / ".dvc/tmp/prepkd").iterdir())
    assert not list((project / ".dvc/tmp/exps").glob("*/.prepkd-scratch"))


def test_the_bad_one_failed_alone_and_says_why(project: Path, sweep: pd.DataFrame) -> None:
    status = run("dvc queue status", project)
    (failed,) = re.findall(r"^\w+ +(\S+) .*Failed$", status, re.M)
    log = run(f"dvc queue logs {failed}", project)
    (line,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: params.yaml: distill.method is '{BAD}': contradicts itself: ka-ps and ka-lsr exclude each other; "
        "one of them"
    )
    assert "Traceback" not in log
    run("dvc queue remove --failed", project)
    assert "Failed" not in run("dvc queue status", project)


def test_plots_of_two_experiments_are_in_one_page(project: Path, sweep: pd.DataFrame, tmp_path: Path) -> None:
    first, second = (name(sweep, method) for method in ("kd", "ka-ps"))
    run(f"dvc plots diff {first} {second} -o {tmp_path}", project)
    page = (tmp_path / "index.html").read_text()
    for one in (first, second):
        assert f'"rev": "{one}"' in page
    assert "learning_curves" in page and "confusion" in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_one_is_pushed_and_applied_elsewhere(project: Path, sweep: pd.DataFrame, tmp_path: Path) -> None:
    chosen = name(sweep, "ka-ps")
    run(f"dvc exp push origin {chosen}", project)
    run(f"git clone -q {project.parent / 'hub.git'} clone", tmp_path)
    clone = tmp_path / "clone"
    # The remote is relative to the project, which the clone is not beside.
    run(f"dvc remote add -q --local -f -d shared {project.parent / 'remote'}", clone)
    assert chosen in run("dvc exp list origin", clone)
    run(f"dvc exp pull origin {chosen} && dvc exp apply {chosen}", clone)
    assert YAML(typ="safe").load(clone / "params.yaml")["distill"]["method"] == "ka-ps"
    assert json.loads((clone / "results/metrics.json").read_text())["top1"]["mean"] == pytest.approx(
        float(sweep.loc[chosen, "top1.mean"]), abs=1e-4
    )
    card = json.loads((clone / "models/student/seed0/model.json").read_text())
    assert card["training"]["method"] == "ka-ps"
    assert "up to date" in run("dvc status dvc.yaml", clone)


def test_one_becomes_a_branch_and_its_student_is_an_artifact(
    project: Path, sweep: pd.DataFrame, tmp_path: Path
) -> None:
    chosen = name(sweep, "kd")
    run(f"dvc exp branch {chosen} better && git push -q origin better && dvc exp push origin {chosen}", project)
    assert run("git rev-parse better", project).startswith(revision(sweep, "kd"))
    hub, remote = project.parent / "hub.git", project.parent / "remote"
    run(f"dvc artifacts get {hub} student --rev better --remote-config url={remote} -o student", tmp_path)
    card = json.loads((tmp_path / "student/seed0/model.json").read_text())
    assert card["training"]["method"] == "kd" and (tmp_path / "student/seed0/model.safetensors").is_file()


@pytest.mark.real
def test_a_sweep_on_cifar100_gets_its_raw_data_from_dvc(tmp_path: Path) -> None:
    root = os.environ.get("PREPKD_CIFAR100")
    if root is None:
        pytest.skip("set PREPKD_CIFAR100 to the folder that holds cifar-100-python")
    run("git init -q && git config user.email a@b.c && git config user.name a", tmp_path)
    run("prepkd init --dataset cifar100 --teacher convnet4 --student convnet4", tmp_path)
    shutil.copytree(Path(root) / "cifar-100-python", tmp_path / "data/raw/cifar-100-python")

    def few(params: dict) -> None:
        few_epochs = {"epochs": 1, "milestones": [], "precision": "float32"}
        params["threads"] = 1
        params["prepare"]["subset"] = 4
        params["teachers"]["teacher"].update(few_epochs)
        params["cache"].update(views=2)
        params["distill"].update(few_epochs, seeds=1)

    edit_params(tmp_path, few)
    # Links, so that no workspace of the queue copies the data.
    run("dvc config cache.type hardlink && dvc add -q data/raw/cifar-100-python", tmp_path)
    run("git add -A && git commit -qm data && dvc exp run --queue -S distill.method=kd,ka-ps", tmp_path)
    try:
        run("dvc queue start -j 2", tmp_path)
        wait_for_queue(tmp_path)
    finally:
        stop_workers(tmp_path)
    shown = experiments(tmp_path)
    assert sorted(shown["distill.method"]) == ["ka-ps", "kd"]
    assert shown["top1.mean"].astype(float).between(0, 1).all()
    locks = [lock(tmp_path, rev) for rev in shown["rev"]]
    assert outputs(locks[0]["cache-logits@teacher"]) == outputs(locks[1]["cache-logits@teacher"])
    (raw,) = [dep for dep in locks[0]["prepare"]["deps"] if dep["path"] == "data/raw/cifar-100-python"]
    assert raw["md5"].endswith(".dir") and raw["nfiles"] >= 3
