"""The commands of docs/how-to/sweeps.md in order: a queue with two workers, a failing task, and uses of the results."""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from commands import ROOT, edit_params, run, stop_workers, wait_for_queue
from ruamel.yaml import YAML

HUB = "https://example.org/you/digits.git"  # in the docs; the tests replace it by a bare repository
REMOTE = "/mnt/shared/dvc"
PAGE = (ROOT / "docs/how-to/sweeps.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
START, QUEUE, LOGS, FAILED, PLOTS, KEEP, PUSH, PULL, TAG, GET = range(10)
# About thirty processes import PyTorch one after the other: slow on a busy machine.
pytestmark = pytest.mark.timeout(1800)


def documented(block: int, folder: Path) -> str:
    """Run a block of the page."""
    return run("set -e\n" + here(BLOCKS[block], folder), folder)


def here(commands: str, folder: Path) -> str:
    """Replace the page's hub and DVC remote in commands by folders beside `folder`."""
    return commands.replace(HUB, str(folder.parent / "hub.git")).replace(REMOTE, str(folder.parent / "remote"))


def shrink(params: dict) -> None:
    params["prepare"]["subset"] = 12
    params["teachers"]["teacher"].update(model="convnet4", epochs=2)
    params["distill"].update(student="convnet4", epochs=2, seeds=1)
    params["compare"].update(students=["convnet4"], runs=["kd"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new project after the page's first block of commands, with an empty hub beside it."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    folder.mkdir()
    run("git init -q --bare -b main ../hub.git && git init -q -b main", folder)
    init, *first = here(BLOCKS[START], folder).splitlines()
    run(init, folder)
    edit_params(folder, shrink)
    for command in first:
        run(command, folder)
    yield folder
    stop_workers(folder)


@pytest.fixture(scope="module")
def sweep(project: Path) -> pd.DataFrame:
    """The experiments of the page's queue, run with a new teacher that both workers need at the same time."""
    run(BLOCKS[QUEUE].replace("--queue", "--queue -S teachers.teacher.seed=1"), project)
    wait_for_queue(project, failed=1)
    return experiments(project)


def experiments(folder: Path) -> pd.DataFrame:
    """The experiments' rows of `dvc exp show`, by name."""
    shown = pd.read_csv(io.StringIO(run("dvc exp show --csv 2>/dev/null", folder)))
    return shown[shown["typ"].str.startswith("branch_")].set_index("Experiment")


def lock(folder: Path, revision: str) -> dict:
    return YAML(typ="safe").load(run(f"git show {revision}:dvc.lock", folder))["stages"]


def outputs(stage: dict) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in stage["outs"]}


def test_the_good_have_their_figures_and_one_teacher(project: Path, sweep: pd.DataFrame) -> None:
    assert sweep.loc[["method-1", "method-2"], "distill.method"].tolist() == ["kd", "ka-ps"]
    assert sweep.loc[["method-1", "method-2"], "top1.mean"].astype(float).between(0, 1).all()
    first, second, main = (lock(project, rev) for rev in (*sweep.loc[["method-1", "method-2"], "rev"], "main"))
    for stage in ("prepare", "train-teacher@teacher", "cache-logits@teacher"):
        assert outputs(first[stage]) == outputs(second[stage])
    assert outputs(first["distill"]) != outputs(second["distill"])
    assert outputs(first["train-teacher@teacher"]) != outputs(main["train-teacher@teacher"])
    # Both workspaces used the project's scratch folder and left only finished students there.
    left = [path for path in (project / ".dvc/tmp/prepkd").iterdir() if path.is_dir()]
    assert left and all((folder / "finished").is_file() for folder in left)


def test_the_bad_one_failed_alone_and_says_why(project: Path, sweep: pd.DataFrame) -> None:
    said = documented(LOGS, project)
    assert re.search(r"method-3 .*Failed", said) and not re.search(r"method-[12] .*Failed", said)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"    {line}\n" in PAGE
    assert "Traceback" not in said
    shown = documented(FAILED, project)
    assert "Failed" not in run("dvc queue status", project)
    assert "[corrected]" in shown and "[method-1]" in shown and "[method-3]" not in shown
    assert max(map(len, shown.splitlines()[-10:])) < 110


def test_plots_of_two_experiments_are_in_one_page(project: Path, sweep: pd.DataFrame) -> None:
    documented(PLOTS, project)
    page = (project / "dvc_plots/index.html").read_text()
    for name in ("method-1", "method-2"):
        assert f'"rev": "{name}"' in page
    assert "learning_curves" in page and "confusion" in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_one_is_applied_another_becomes_a_branch(project: Path, sweep: pd.DataFrame) -> None:
    documented(KEEP, project)
    assert the_second_is_here(project, sweep)
    assert run("git rev-parse plain-kd", project).startswith(sweep.loc["method-1", "rev"])


def the_second_is_here(folder: Path, sweep: pd.DataFrame) -> bool:
    """Assert that settings, figures and students are those of `method-2`; return whether DVC finds all stages up to date."""
    metrics = json.loads((folder / "results/metrics.json").read_text())
    card = json.loads((folder / "models/student/seed0/model.json").read_text())
    assert metrics["top1"]["mean"] == pytest.approx(float(sweep.loc["method-2", "top1.mean"]), abs=1e-4)
    assert YAML(typ="safe").load(folder / "params.yaml")["distill"]["method"] == card["training"]["method"] == "ka-ps"
    return "up to date" in run("dvc status dvc.yaml", folder)


def test_one_is_pushed_and_applied_in_another_clone(project: Path, sweep: pd.DataFrame, tmp_path: Path) -> None:
    said = documented(PUSH, project)
    assert re.search(r"^[1-9]\d* files? uploaded", said, re.M), said
    shutil.copytree(project.parent / "hub.git", tmp_path / "hub.git")
    run("git clone -q hub.git clone", tmp_path)
    documented(PULL, tmp_path / "clone")
    assert the_second_is_here(tmp_path / "clone", sweep)


def test_the_students_of_a_branch_are_an_artifact(project: Path, sweep: pd.DataFrame) -> None:
    documented(TAG, project)
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    documented(GET, elsewhere)
    assert (elsewhere / "student/seed0/model.safetensors").is_file()
    assert json.loads((elsewhere / "student/seed0/model.json").read_text())["training"]["method"] == "kd"


@pytest.mark.real
def test_a_sweep_on_cifar100_gets_its_raw_data_from_dvc(tmp_path: Path) -> None:
    root = os.environ.get("PREPKD_CIFAR100")
    if root is None:
        pytest.skip("set PREPKD_CIFAR100 to the folder that holds cifar-100-python")
    run("git init -q", tmp_path)
    run("prepkd init --dataset cifar100 --teacher convnet4 --student convnet4", tmp_path)
    shutil.copytree(Path(root) / "cifar-100-python", tmp_path / "data/raw/cifar-100-python")

    def few(params: dict) -> None:
        params["threads"] = 1
        params["prepare"]["subset"] = 4
        params["cache"].update(views=2)
        params["distill"].update(seeds=1)
        for section in (params["teachers"]["teacher"], params["distill"]):
            section.update(epochs=4, precision="float32")
            for place in range(3):  # sets 1, 2, 3 in the list in place
                section["milestones"][place] = place + 1

    edit_params(tmp_path, few)
    # Hard links, so that the queue's workspaces don't copy the data.
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
