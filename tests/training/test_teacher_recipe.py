"""A teacher's own recipe: only this teacher is trained with it, with mixed labels if the recipe mixes samples."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import commands
import pytest
import torch
from commands import ROOT, enter
from prepkd.models.new import new_model
from prepkd.project.params import load_params
from prepkd.runtime.streams import Purpose, torch_seed
from prepkd.stages._dataset import read_dataset
from prepkd.store import LogitStore
from prepkd.training.teacher import train_teacher
from prepkd.training.teacher_settings import Teacher
from prepkd.views import ViewPlan
from small_training import CLASSES, COUNT, DATASET, ignore

OWN = [{"resized-crop": {"size": 6}}, {"cutmix": {"alpha": 1.0}}]
SETTINGS = dict(prepare__subset=12, teachers__large__model="convnet4", teachers__large__epochs=2)
SMALL = [f"{key.replace('__', '.')}={value}" for key, value in SETTINGS.items()]
prepkd = partial(commands.prepkd, **SETTINGS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    enter(tmp_path, monkeypatch)
    prepkd("prepare")
    return tmp_path


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_its_loss_is_cross_entropy_with_the_labels_shares(eps: float, tmp_path: Path) -> None:
    plan = ViewPlan([{"crop": {"padding": 1}}, {"mixup": {"alpha": 1.0}}], 1, 3, COUNT)
    chosen = Teacher(model="convnet4", epochs=1, batch_size=COUNT, precision="float32", label_smoothing=eps, seed=3)
    dataset = replace(DATASET, plan=plan)
    _, [row] = train_teacher(chosen, dataset, checkpoint=tmp_path / "run.pt", on_epoch=ignore)
    rows = torch.from_numpy(plan.parameters(0))
    images, labels = DATASET.samples.images, DATASET.samples.labels.tolist()
    partners = plan.partners(rows)
    assert partners is not None
    shares = plan.shares(rows, (8, 8)).tolist()
    assert len({round(share, 2) for share in shares}) > 20, "the recipe mixes"
    logits = (
        new_model("convnet4", dataset, torch_seed(3, Purpose.TEACHER_WEIGHTS.stream()))
        .train()(plan.render(images, rows, images[partners]))
        .detach()
        .double()
    )
    total = 0.0
    for i, (partner, share) in enumerate(zip(partners.tolist(), shares, strict=True)):
        target = [eps / CLASSES] * CLASSES
        target[labels[i]] += (1 - eps) * share
        target[labels[partner]] += (1 - eps) * (1 - share)
        log_sum = math.log(sum(math.exp(z) for z in logits[i].tolist()))
        total -= sum(p * (z - log_sum) for p, z in zip(target, logits[i].tolist(), strict=True))
    assert row["train/loss"] == pytest.approx(total / COUNT, rel=1e-5)


def test_training_shows_it_and_held_out_data_are_shown_as_the_projects_views(project: Path) -> None:
    params = load_params(Path("params.yaml"), [*SMALL, "prepare.val_fraction=0.2"])
    own, theirs = read_dataset(params, 2, 0, OWN), read_dataset(params, 2, 0)
    assert [name for name, _ in own.plan.recipe] == ["resized-crop", "cutmix"]
    assert [name for name, _ in theirs.plan.recipe] == ["crop"]
    batch = own.samples.view_rows(own.plan, 0, slice(0, 5))
    assert own.samples.pixels(own.plan, *batch).shape == (5, 1, 6, 6)
    assert own.samples.targets(own.plan, *batch, 10).shape == (5, 10)
    for dataset in (own, theirs):
        assert dataset.held_out["test"].evaluation_pixels(slice(0, 3)).shape == (3, 1, 8, 8)
    differing = {key for key in own.origin if own.origin[key] != theirs.origin[key]}
    assert differing == {"plan_fingerprint"}
    # If the project's views have another size than the images, so have held-out data.
    sized = load_params(Path("params.yaml"), [*SMALL, "augment=[{resized-crop: {size: 7}}]", "cache.views=2"])
    assert read_dataset(sized, 2, 0, OWN).held_out["test"].evaluation_pixels(slice(0, 3)).shape == (3, 1, 7, 7)


def test_it_is_part_of_the_run_and_no_part_of_the_cache(project: Path) -> None:
    prepkd("train-teacher", "large")
    plain = json.loads(Path("models/teachers/large/model.json").read_text())
    own = {"teachers__large__augment": json.dumps(OWN)}
    prepkd("train-teacher", "large", "--replace", **own)
    prepkd("cache-logits", "large", **own)
    card = json.loads(Path("models/teachers/large/model.json").read_text())
    assert card["training"]["augment"] == OWN and plain["training"]["augment"] is None
    assert card["weights_fingerprint"] != plain["weights_fingerprint"]
    store = LogitStore.open("data/logits/large.zarr")
    assert [name for name, _ in store.plan.recipe] == ["crop"]
