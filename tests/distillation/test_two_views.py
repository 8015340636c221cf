"""Two views per step: one store holds weak and strong views, and its students equal those of a live teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepkd import FeatureStore, LogitStore
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.student_settings import Distill
from prepkd.errors import InputError
from prepkd.methods.entries import make_entries
from prepkd.models import save_checkpoint
from prepkd.models.checkpoint import load_checkpoint
from prepkd.models.new import new_model, untrained_model
from prepkd.provenance.teacher_files import TeacherFiles
from prepkd.runtime.streams import Purpose
from prepkd.store.destination import Destination
from prepkd.store.fetch import fetch_views, open_source
from prepkd.teacher.caching import cache_logits
from prepkd.teacher.feature_caching import cache_features
from prepkd.teacher.loaded import LoadedTeacher
from prepkd.teacher.settings import Cache
from prepkd.training.batches import STRONG_PIXELS, Epochs, batches
from prepkd.training.checkpoints import Row
from prepkd.verification.live_teacher import verify_rows
from prepkd.views import PairedPlan, ViewPlan, make_plan
from prepkd.views.order import cycle
from small_training import CLASSES, COUNT, DATASET, distilled, same, timeless

WEAK: list[Any] = [{"crop": {"padding": 1}}]
STRONG: list[Any] = [{"crop": {"padding": 1}}, "flip", "erase"]
BATCH, VIEWS = 16, 9


def data(views: Any = "all", strong: list[Any] = STRONG) -> Dataset:
    return replace(DATASET, plan=make_plan(WEAK, views, 5, COUNT, strong))


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Teacher:
    """Teachers below `root` and their stores of weak and strong views."""

    root: Path

    def store(self, name: str = "t") -> Path:
        return self.root / f"{name}.zarr"

    def write(self, url: Path, dataset: Dataset, name: str = "t") -> LogitStore:
        teacher = LoadedTeacher(name, *load_checkpoint(self.root / name))
        cache_logits(teacher, dataset, cache(), Destination(str(url), self.root / "scratch", print))
        return LogitStore.open(url)


def cache(**changes: Any) -> Cache:
    return Cache.model_validate({"views": "all", "batch_size": BATCH, "chunk": 32} | changes)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    made = Teacher(tmp_path_factory.mktemp("teacher"))
    for name, seed in (("t", 9), ("u", 10)):
        model = new_model("resnet8", DATASET, seed)
        save_checkpoint(made.root / name, model, {"model": "resnet8", "num_classes": CLASSES, "in_channels": 1})
        made.write(made.store(name), data(), name)
    return made


def settings(method: str, **changes: Any) -> Distill:
    small = {"teacher": "t", "student": "convnet4", "epochs": 3, "method": method, "batch_size": 16}
    wanted = small | {"precision": "float32", "lr": 0.02, "seeds": 1, "checkpoint_every": 1, "views_per_step": 2}
    return Distill.model_validate(wanted | changes)


def run(
    chosen: Distill,
    teacher: Teacher,
    folder: Path,
    *,
    dataset: Dataset | None = None,
    stores: Mapping[str, Path] = {},
    settings_of_cache: Cache | None = None,
    stop: int | None = None,
) -> tuple[dict[str, torch.Tensor], list[Row], dict[str, Any]]:
    """Train one student; return its weights, history and card."""
    files = {
        name: TeacherFiles(
            teacher.root / name, str(stores.get(name, teacher.store(name))), None, f"prepkd train-teacher {name}"
        )
        for name in chosen.teacher_names
    }
    model, history, card = distilled(chosen, settings_of_cache or cache(), dataset or data(), files, folder, stop=stop)
    return model.state_dict(), history, card


@pytest.mark.parametrize(
    ("method", "order"),
    [
        *(("mlkd", order) for order in ("cycle", "random")),
        *(("ka-ps+ls+mlkd", "cycle"), ("ka-ps+dtd-flsw+crld", "random")),
        *(("kd", "random"), ("ka-lsr+dtd-cwsm", "cycle")),  # methods of one view: the loss is the mean over both
    ],
)
def test_cached_and_online_students_have_equal_weights(
    method: str, order: str, teacher: Teacher, tmp_path: Path
) -> None:
    chosen = settings(method, view_order=order)
    cached, history, _ = run(chosen, teacher, tmp_path / "cached")
    live, rows, _ = run(settings(method, view_order=order, source="online"), teacher, tmp_path / "online")
    assert same(cached, live) and timeless(history) == timeless(rows)
    assert history[-1]["train/loss"] < history[0]["train/loss"]


def test_cached_and_online_ensembles_have_equal_weights(teacher: Teacher, tmp_path: Path) -> None:
    both = {"teachers": ["t", "u"]}
    found = [
        run(settings("mlkd", source=source, **both), teacher, tmp_path / source)[0] for source in ("cached", "online")
    ]
    assert same(*found) and not same(found[0], run(settings("mlkd"), teacher, tmp_path / "alone")[0])


def test_feature_terms_beside_it_compare_weak_views(teacher: Teacher, tmp_path: Path) -> None:
    """Feature terms beside a two-view method read stores of weak views only, which don't depend on the strong ones."""
    chosen = settings("mlkd+pkt", student="resnet8", epochs=2)
    stored = cache(features=["pkt"], features_root=str(tmp_path / "features"))
    weak, loaded = replace(data(), plan=data().plan.weak), LoadedTeacher("t", *load_checkpoint(teacher.root / "t"))
    student = untrained_model("resnet8", weak)
    [entry] = make_entries(chosen.entry_terms(["pkt"]), student, loaded.model, weak.samples.size)
    url = stored.feature_url("t", "pkt")
    cache_features(loaded, weak, stored, entry, Destination(url, tmp_path / "scratch", print))
    assert FeatureStore.open(url).views == VIEWS
    cached, history, _ = run(chosen, teacher, tmp_path / "cached", settings_of_cache=stored)
    online = chosen.model_copy(update={"source": "online"})
    live, rows, _ = run(online, teacher, tmp_path / "online", settings_of_cache=stored)
    assert same(cached, live) and timeless(history) == timeless(rows)
    # One forward pass per view: batch norm's statistics are updated twice per step.
    updates = {int(value) for key, value in live.items() if key.endswith("num_batches_tracked")}
    assert updates == {2 * chosen.epochs * -(-COUNT // chosen.batch_size)}


def test_a_killed_run_resumes_to_the_same_bits(teacher: Teacher, tmp_path: Path) -> None:
    whole, history, _ = run(settings("mlkd"), teacher, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(settings("mlkd"), teacher, tmp_path / "killed", stop=1)
    resumed, rows, _ = run(settings("mlkd"), teacher, tmp_path / "killed")
    assert same(whole, resumed) and timeless(history) == timeless(rows)


@pytest.mark.parametrize("source", ["cached", "online"])
def test_one_view_of_a_store_of_both_kinds_is_that_of_a_store_of_one(
    source: str, teacher: Teacher, tmp_path: Path
) -> None:
    alone = data(strong=[])
    teacher.write(tmp_path / "t.zarr", alone)
    chosen = settings("ka-ps+dtd-flsw", views_per_step=1, source=source)
    one, history, _ = run(chosen, teacher, tmp_path / "one", dataset=alone, stores={"t": tmp_path / "t.zarr"})
    both, rows, _ = run(chosen, teacher, tmp_path / "both")
    assert same(one, both) and timeless(history) == timeless(rows)


@pytest.mark.parametrize("method", ["ce", "kd"])
def test_a_method_of_one_view_is_another_with_two(method: str, teacher: Teacher, tmp_path: Path) -> None:
    found = [run(settings(method, views_per_step=count), teacher, tmp_path / str(count))[0] for count in (1, 2)]
    assert not same(*found)


def test_the_store_holds_the_answers_to_both_kinds(teacher: Teacher) -> None:
    store = LogitStore.open(teacher.store())
    plan = store.plan
    assert isinstance(plan, PairedPlan) and (store.views, plan.weak.views) == (2 * VIEWS, VIEWS)
    model = load_checkpoint(teacher.root / "t")[0].eval()
    strong = ViewPlan(STRONG, VIEWS, 5, COUNT, purpose=Purpose.STRONG_VIEWS)
    for view, own in ((2, ViewPlan(WEAK, "all", 5, COUNT)), (2 + VIEWS, strong)):
        pixels = DATASET.samples.pixels(own, *DATASET.samples.view_rows(own, 2, slice(None)))
        with torch.no_grad():
            live = model(pixels)
        torch.testing.assert_close(torch.from_numpy(store.logits(view)), live, atol=1e-2, rtol=0)


def test_verify_passes_and_its_controls_invert_the_flip_of_strong_views(teacher: Teacher) -> None:
    store = LogitStore.open(teacher.store())
    found = verify_rows(store, load_checkpoint(teacher.root / "t")[0], DATASET.samples, count=256, seed=0)
    assert found.verdict.name == "PASS", found.verdict
    assert max(found.measured.views) >= VIEWS > min(found.measured.views)
    assert {"inverted flip", "neighbouring view", "shuffled index"} <= found.measured.controls.keys()


def test_a_store_without_strong_views_is_refused_and_so_is_one_of_other_strong_views(
    teacher: Teacher, tmp_path: Path
) -> None:
    for name, strong in (("none", []), ("other", ["erase"])):
        teacher.write(tmp_path / name, data(strong=strong))
        with pytest.raises(InputError, match=r"views\.strong is .*, expected \[.*run `prepkd cache-logits t` again"):
            run(settings("mlkd"), teacher, tmp_path, stores={"t": tmp_path / name})
    with pytest.raises(InputError, match=r"views\.strong is \[.*, expected None"):
        run(settings("kd", views_per_step=1), teacher, tmp_path, dataset=data(strong=[]))
    with pytest.raises(InputError, match="one kind of views; set augment_strong"):
        run(settings("mlkd", source="online"), teacher, tmp_path, dataset=data(strong=[]))


def test_partners_that_were_not_fetched_are_named(teacher: Teacher, tmp_path: Path) -> None:
    url, chosen = str(teacher.store()), settings("crld", epochs=1)
    first = cycle(chosen.seed_list[0], 0, VIEWS, COUNT)
    for views, problem in ((f"{first}", True), (f"{first},{first + VIEWS}", False)):
        fetch_views(open_source(url), str(tmp_path / "t.zarr"), views, tmp_path / "scratch", on_wait=print)
        if problem:
            with pytest.raises(InputError, match=f"{first + VIEWS}"):
                run(chosen, teacher, tmp_path / "run", stores={"t": tmp_path / "t.zarr"})
    copied, *_ = run(chosen, teacher, tmp_path / "run", stores={"t": tmp_path / "t.zarr"})
    assert same(copied, run(chosen, teacher, tmp_path / "whole")[0])


def test_a_batch_shows_both_views_of_the_same_samples() -> None:
    dataset = data()
    plan = dataset.plan
    weak = replace(dataset, plan=plan.weak)
    epochs = Epochs(weak, lambda epoch: epoch, 0, strong=plan.strong)
    assert epochs.answer_names == (STRONG_PIXELS,)
    epoch = epochs.read(4)
    found = list(batches(weak, epoch, epochs.answer_names, 16, 16))
    for column, view in ((0, 4), (-1, 4 + VIEWS)):
        rows = torch.from_numpy(plan.parameters(view))[epoch.order]
        shown = torch.cat([batch[column] for batch in found])
        assert torch.equal(shown, dataset.samples.pixels(plan, epoch.order, rows))
        assert all(batch[column].is_contiguous(memory_format=torch.channels_last) for batch in found)
    mixed = Epochs(weak, lambda epoch: np.arange(COUNT) % VIEWS, 0, strong=plan.strong).read(0)
    assert mixed.strong is not None
    everyone = torch.from_numpy(plan.parameters(np.arange(COUNT) % VIEWS + VIEWS))
    assert torch.equal(
        dataset.samples.pixels(mixed.strong[0], torch.arange(COUNT), mixed.strong[1]),
        dataset.samples.pixels(plan, torch.arange(COUNT), everyone),
    )


@pytest.mark.parametrize("method", ["mlkd", "crld", "ka-ps+mlkd+at"])
def test_a_method_of_two_views_says_what_to_set(method: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"views_per_step is 1; (mlkd|crld) compares a weak and a strong view .*"
        r"set distill\.views_per_step: 2, and augment_strong",
    ):
        settings(method, views_per_step=1)
