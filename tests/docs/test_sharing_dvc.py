"""docs/how-to/sharing.md, section DVC: one clone pushes, another distills from it without running a teacher."""

import json
import re
import shutil
from pathlib import Path

import preloaded
import pytest
from commands import ROOT, copy_working_tree, edit_params, run

HUB = "https://example.org/you/digits.git"  # in the docs; the tests replace it by a bare repository
SHARE, COLLEAGUE, SMALLER, GET = range(4)  # the section's blocks of commands


def shrink(params: dict) -> None:
    params["prepare"]["subset"] = 10
    del params["teachers"]["small"]
    params["teachers"]["large"].update(model="convnet4", epochs=1)
    params["cache"].update(views=4)
    params["distill"].update(student="convnet4", epochs=2, seeds=1)


def section(language: str) -> list[str]:
    """The section's code blocks in a language."""
    text = (ROOT / "docs/how-to/sharing.md").read_text().split("\n## Through DVC\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


class Desk:
    """A folder with the project's git hub and DVC remote, in which the docs' commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        (folder / "bin").mkdir()
        shim = folder / "bin" / "prepkd"
        shim.write_text(f'#!/bin/sh\necho "$1" >> {self.log}\nexec {preloaded.commands()}/prepkd "$@"\n')
        shim.chmod(0o755)

    def ran(self) -> list[str]:
        """Return the `prepkd` commands run since the last call."""
        stages = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return stages

    def run(self, commands: str, folder: Path) -> str:
        """Run commands of the docs with this desk's hub and remote, and with a `prepkd` that logs its commands."""
        commands = commands.replace(HUB, str(self.folder / "digits.git")).replace(
            "/mnt/shared/dvc", f"{self.folder}/remote"
        )
        paths = f"export PATH={self.folder}/bin:$PATH"
        return run(f"set -e\n{paths}\n{commands}", folder, PREPKD_SCRATCH=f"{self.folder}/scratch")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A hub and a remote to which a project pushed its results as documented; the project's folder is deleted."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    project = desk.folder / "first"
    copy_working_tree(project)
    edit_params(project, shrink)
    run("git init -q --bare -b main digits.git", desk.folder)
    run("git init -q -b main && git add -A && git commit -qm settings", project)
    run(f"git remote add origin {desk.folder / 'digits.git'}", project)
    desk.run("dvc repro -q && git add -A && git commit -qm first && git push -q -u origin main", project)
    assert desk.ran() == ["prepare", "train-teacher", "cache-logits", "gather", "distill", "evaluate", "report"]
    desk.run(section("bash")[SHARE], project)
    # The first clone trains the same student, for comparison.
    desk.run("prepkd distill --method ka-ps --replace", project)
    shutil.copytree(project / "models/student", desk.folder / "student")
    desk.ran()
    shutil.rmtree(project)
    return desk


def students(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("seed*/model.safetensors"))}


def test_a_second_clone_distills_and_never_runs_a_teacher(desk: Desk, tmp_path: Path) -> None:
    text = desk.run(section("bash")[COLLEAGUE], tmp_path)
    clone = tmp_path / "digits"
    assert "Running stage 'distill'" in text and "Running stage 'evaluate'" in text
    assert desk.ran() == ["gather", "distill", "evaluate", "report"], text
    assert len(students(desk.folder / "student")) == 1
    assert students(clone / "models/student") == students(desk.folder / "student")
    assert json.loads((clone / "results/metrics.json").read_text())["n"] == 1
    assert "Data and pipelines are up to date." in run("dvc status dvc.yaml", clone)


def test_data_and_store_are_enough(desk: Desk, tmp_path: Path) -> None:
    """A clone without the teacher's model folder distills from the data and the store."""
    run(f"git clone -q {desk.folder / 'digits.git'} digits", tmp_path)
    clone = tmp_path / "digits"
    status = json.loads(run("prepkd status --json", clone))
    assert status["next"] == ["dvc pull dvc.yaml", "dvc repro"]
    assert [one["name"] for one in status["stages"] if one["state"] == "out of date"] == ["report"]  # it has no outputs
    said = desk.run(section("bash")[SMALLER], clone)
    assert not (clone / "models/teachers").exists()
    assert desk.ran() == ["distill", "evaluate"]
    assert "agreement and genetic errors left out: no models/teachers/large" in said
    assert students(clone / "models/student") == students(desk.folder / "student")


def test_the_store_alone_by_dvc_get_and_out_of_the_remote(desk: Desk, tmp_path: Path) -> None:
    desk.run(section("bash")[GET], tmp_path)
    (snippet,) = section("python")
    (tmp_path / "snippet.py").write_text(
        snippet.replace(HUB, str(desk.folder / "digits.git"))
        + "import numpy as np\n"
        + "local = LogitStore.open('large.zarr')\n"
        + "assert store.attributes == local.attributes and local.present == store.present == [0, 1, 2, 3]\n"
        + "assert all(np.array_equal(store.logits(view), local.logits(view)) for view in range(4))\n"
    )
    assert run("python snippet.py", tmp_path).splitlines()[-1] == "(100, 10)"
    assert desk.ran() == []
