"""A recipe that mixes samples, through all commands: the teacher's logits of mixed images, with their mixed labels."""

import json
import shutil
from pathlib import Path

import commands
import numpy as np
import prepkd
import pytest
import torch
from commands import ROOT, enter
from prepkd.data.prepared.file import load_split
from prepkd.data.samples.labels import is_wrong
from prepkd.data.samples.samples import Samples
from torch.utils.data import DataLoader

STORE = "data/logits/large.zarr"
SETTINGS = {
    "prepare.subset": "12",
    "teachers.large.model": "convnet4",
    "teachers.large.epochs": "6",
    "distill.student": "convnet4",
    "distill.method": "ka-ps+dtd-flsw",
    "distill.epochs": "2",
    "distill.seeds": "1",
    "cache.views": "3",
}


@pytest.fixture(params=["mixup: {alpha: 0.5}", "cutmix: {}"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    enter(tmp_path, monkeypatch)
    recipe = f"[crop: {{padding: 1}}, {request.param}]"
    for stage in (["prepare"], ["train-teacher", "large"], ["cache-logits", "large"], ["distill"], ["evaluate"]):
        run(*stage, recipe=recipe)
    return tmp_path


def run(*arguments: str, recipe: str | None = None) -> str:
    done = commands.invoke(*arguments, **SETTINGS | {"augment": recipe} if recipe else {})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_every_stage_and_tool_takes_a_store_of_mixed_views(project: Path) -> None:
    report = json.loads(run("verify", STORE, "--json", "--seed", "1"))
    assert report["verdict"] == "PASS"
    assert {"shuffled index", "neighbouring view"} <= set(report["controls"])
    assert json.loads(run("inspect", STORE, "--json"))["ka"]["rows"] == 360
    assert 0 < json.loads(Path("results/metrics.json").read_text())["top1"]["mean"] < 1

    # The store states the teacher's error on the mixed labels.
    store = prepkd.LogitStore.open(STORE)
    samples = Samples.of(load_split(Path("data/digits.h5"), "train"), torch.device("cpu"))
    for view in range(3):
        labels = samples.targets(store.plan, *samples.view_rows(store.plan, view, slice(None)), store.classes)
        assert (labels.amax(dim=-1) < 1).float().mean() > 0.5
        wrong = is_wrong(torch.from_numpy(store.logits(view)), labels).float().mean().item()
        assert store.summary["teacher_error_per_view"][view] == pytest.approx(wrong, abs=1e-6)
    plain = is_wrong(torch.from_numpy(store.logits(0)), samples.labels).float().mean().item()
    assert plain != pytest.approx(store.summary["teacher_error_per_view"][0], abs=1e-6)

    images, labels, logits = next(iter(DataLoader(prepkd.ViewDataset("data/digits.h5", STORE, view=2), batch_size=50)))
    assert images.shape == (50, 1, 8, 8) and labels.shape == logits.shape == (50, 10)
    np.testing.assert_allclose(labels.sum(dim=1), 1, rtol=1e-6)
    assert np.array_equal(logits, store.logits(2)[:50])
