"""docs/how-to/two-views.md through the commands: one store holds weak and strong views, and students see both."""

import json
import shutil
from pathlib import Path

import commands
import numpy as np
import prepkd
import pytest
from commands import ROOT, enter

STORE = "data/logits/large.zarr"
SETTINGS = {
    "prepare.subset": "12",
    "teachers.large.model": "convnet4",
    "teachers.large.epochs": "4",
    "distill.student": "convnet4",
    "distill.epochs": "2",
    "distill.seeds": "1",
}
BOTH = {
    "augment_strong": "[crop: {padding: 1}, trivial-augment, erase]",
    "distill.views_per_step": "2",
    "distill.method": "ka-ps+mlkd",
}


def invoke(*arguments: str, **changes: str) -> tuple[int, str, str]:
    done = commands.invoke(*arguments, **SETTINGS | changes)
    return done.exit_code, done.stdout, f"{done.stderr}{done.exception or ''}"


def run(*arguments: str, **changes: str) -> str:
    code, out, error = invoke(*arguments, **changes)
    assert code == 0, (out, error)
    return out


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"]):
            run(*stage, **BOTH)
    return folder


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PREPKD_SCRATCH", str(tmp_path / "scratch"))


def test_every_command_takes_a_store_of_both_kinds(here: None) -> None:
    store = prepkd.LogitStore.open(STORE)
    assert (store.views, store.plan.weak.views) == (18, 9)  # all weak views and as many strong ones
    report = json.loads(commands.invoke("verify", STORE, "--json", "--seed", "1").stdout)
    assert report["verdict"] == "PASS" and min(report["views"]) < 9 <= max(report["views"])
    shown = commands.invoke("inspect", STORE).stdout
    assert "strong views" in shown and "9 of 18" not in shown and "trivial-augment" in shown
    run("gather", **BOTH)
    run("distill", **BOTH)
    run("evaluate", **BOTH)
    assert 0 < json.loads(Path("results/metrics.json").read_text())["top1"]["mean"] < 1
    weights = Path("models/student/seed0/model.safetensors").read_bytes()
    run("distill", "--replace", **BOTH, **{"distill.source": "online"})
    assert Path("models/student/seed0/model.safetensors").read_bytes() == weights
    run("compare", "--run", "crld,view_order=random", **BOTH)
    run("compare", "--run", "kd,views_per_step=1", **BOTH)
    assert len(list(Path("results/compare/runs").rglob("*.safetensors"))) == 2
    views = prepkd.ViewDataset("data/digits.h5", STORE, view=8)
    assert views.views == 9 and np.array_equal(np.stack([views[i][2] for i in range(20)]), store.logits(8)[:20])


def test_a_teacher_does_not_depend_on_the_strong_recipe(here: None) -> None:
    before = Path("models/teachers/large/model.safetensors").read_bytes()
    run("train-teacher", "large", "--replace", **BOTH | {"augment_strong": "[erase]"})
    assert Path("models/teachers/large/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        (
            "distill",
            {"distill.views_per_step": "1"},
            "params.yaml: distill: method is ka-ps+mlkd and views_per_step is 1; mlkd compares a weak and a strong view of "
            "each sample: set distill.views_per_step: 2, and augment_strong",
        ),
        (
            "distill",
            {"augment_strong": "[]"},
            "distill.views_per_step is 2 and augment_strong is empty; expected the recipe",
        ),
        ("distill", {"augment_strong": "[mixup]"}, "augment with augment_strong: one of the recipes mixes samples"),
        ("distill", {"augment_strong": "[blur]"}, "augment_strong: has no augmentation 'blur'"),
        ("distill", {"augment_strong": "[erase]"}, "large.zarr: views.strong is [{"),
        ("distill", {"distill.views_per_step": "3"}, "distill.views_per_step is 3; expected 1 or 2"),
    ],
)
def test_what_does_not_fit_is_one_line(here: None, command: str, changes: dict[str, str], message: str) -> None:
    code, _, error = invoke(command, **BOTH | changes)
    assert code != 0 and message in error.replace("\n", " "), error


def test_methods_list_the_extra_views_and_check_says_what_is_missing(here: None) -> None:
    listed = {row["name"]: row for row in json.loads(run("methods", "--json"))}
    assert {name for name, row in listed.items() if row["views"] == 2} == {"mlkd", "crld"}
    text = " ".join(run("methods").split())
    assert text.count("extra views: a strong one beside each weak one") == 2
    [missing] = json.loads(run("methods", "--check", "mlkd", "--json"))["missing"]
    assert "set distill.views_per_step: 2, and augment_strong" in missing
    found = run("methods", "--check", "mlkd", **BOTH)
    assert "extra views" in found and "missing          nothing" in found
    weak = {"augment_strong": "[]", "distill.views_per_step": "1", "distill.method": "kd"}
    run("cache-logits", "large", "--replace", **BOTH | weak)
    [missing] = json.loads(run("methods", "--check", "mlkd", "--json", **BOTH))["missing"]
    assert missing.endswith("holds no strong views; set augment_strong and run `prepkd cache-logits large`")
