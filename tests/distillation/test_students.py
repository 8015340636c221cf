"""Students trained from a store equal those trained with the live teacher, bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation.asked_teachers import combined
from prepkd.models import Normalised
from prepkd.store import LogitStore
from prepkd.store.encodings.f16 import F16
from prepkd.teacher.ensemble import EnsembleSettings
from prepkd.teacher.online import OnlineTeacher
from prepkd.training.batches import TeacherAnswers, Views
from prepkd.views import ViewPlan
from small_training import COUNT, Answers, same, timeless
from student_runs import CACHE, PLANS, RUNS, cached, dataset_of, settings, trained_seeds
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")


def online_teacher(teacher: Normalised, dataset: Dataset) -> OnlineTeacher:
    """A live teacher with the encoding, batch size and precision of these tests' stores."""
    encoding, settings = F16(dataset.classes), {"batch_size": CACHE.batch_size, "precision": CACHE.precision}
    return OnlineTeacher(teacher, dataset, encoding, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("views", PLANS)
@pytest.mark.parametrize("order", ["cycle", "random"])
@pytest.mark.parametrize("run", RUNS)
def test_cached_and_online_give_equal_weights(
    run: str,
    order: str,
    views: str,
    teacher: Normalised,
    store_of: Callable[[Dataset], LogitStore],
    tmp_path: Path,
) -> None:
    dataset = dataset_of(views)
    chosen = settings(run, view_order=order)
    ours, history = trained_seeds(chosen, dataset, cached(store_of(dataset), order), tmp_path / "cached")[0]
    live = online_teacher(teacher, dataset)
    online = chosen.model_copy(update={"source": "online"})
    theirs, live_history = trained_seeds(online, dataset, live, tmp_path / "online")[0]
    assert same(ours, theirs)
    assert timeless(history) == timeless(live_history)
    assert len(history) == 2
    if "ka" in run:
        assert 0 < history[-1]["train/adjusted"] < 1  # KA adjusted some rows

    if run in ("kd", "ka-ps+dtd-flsw"):
        other = store_of(dataset_of(views, seed=6))
        wrong, _ = trained_seeds(chosen, dataset, cached(other, order), tmp_path / "wrong")[0]
        assert not same(wrong, theirs), "a store of other views must not give these weights"


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
@pytest.mark.parametrize("run", ["kd", "ka-ps+dtd-flsw"])
def test_several_cached_teachers_and_several_online_give_equal_weights(
    run: str, combine: str, teacher: Normalised, store_of: Callable[[Dataset], LogitStore], tmp_path: Path
) -> None:
    """Ensembles of cached and of online teachers agree; the second member is the first one shifted by a view."""
    dataset = dataset_of("sampled")
    chosen = settings(run).model_copy(
        update={"teachers": ["t", "u"], "ensemble": EnsembleSettings(combine=combine, weights=[1.0, 3.0])}
    )
    stored = cached(store_of(dataset), "cycle")
    live = online_teacher(teacher, dataset)

    def shifted(one: TeacherAnswers) -> Answers:
        return Answers(lambda views: one((views + 1) % dataset.plan.views))  # type: ignore[operator]

    found = {}
    for name, member in {"cached": stored, "online": live}.items():
        found[name], _ = trained_seeds(chosen, dataset, combined([member, shifted(member)], chosen), tmp_path / name)[0]
    alone, _ = trained_seeds(chosen, dataset, stored, tmp_path / "alone")[0]
    assert same(found["cached"], found["online"])
    assert not same(found["cached"], alone), "the second member must be heard"


def test_without_the_encoding_the_weights_are_others(teacher: Normalised, tmp_path: Path) -> None:
    """The online teacher must round like the store: exact logits give close but different weights."""
    dataset = dataset_of("sampled")
    live = online_teacher(teacher, dataset)

    @torch.inference_mode()
    def exact(views: Views) -> dict[str, Tensor]:
        logits = teacher(dataset.plan.render(dataset.samples.images, torch.from_numpy(dataset.plan.parameters(views))))
        return {"logits": logits - logits.amax(1, keepdim=True), "row_max": logits.amax(1)}

    ours, _ = trained_seeds(settings(), dataset, live, tmp_path / "rounded")[0]
    theirs, _ = trained_seeds(settings(), dataset, Answers(exact), tmp_path / "exact")[0]
    assert not same(ours, theirs)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0.01, atol=0.01)


@pytest.mark.parametrize("order", ["cycle", "random"])
@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
@pytest.mark.parametrize("run", ["ce", "kd", "ka-ps", "ka-lsr", "ka-ps+dtd-flsw"])
def test_mixed_views_cached_and_online_give_equal_weights(
    run: str, mix: str, order: str, teacher: Normalised, store_of: Callable[[Dataset], LogitStore], tmp_path: Path
) -> None:
    """For mixed views the teacher's logits are those of the mixed image; cached and online students agree."""
    plan = ViewPlan([{"crop": {"padding": 1}}, {mix: {"alpha": 1.0}}], 3, 5, COUNT)
    dataset = replace(dataset_of("sampled"), plan=plan)
    chosen, store = settings(run, view_order=order), store_of(dataset)
    ours, history = trained_seeds(chosen, dataset, cached(store, order), tmp_path / "cached")[0]
    live = online_teacher(teacher, dataset)
    online = chosen.model_copy(update={"source": "online"})
    theirs, live_history = trained_seeds(online, dataset, live, tmp_path / "online")[0]
    assert same(ours, theirs)
    assert timeless(history) == timeless(live_history)
    assert 0 < store.summary["teacher_error"] < 1
    if "ka" in run:
        assert 0 < history[-1]["train/adjusted"] < 1
    plain, _ = trained_seeds(
        chosen, dataset_of("sampled"), cached(store_of(dataset_of("sampled")), order), tmp_path / "p"
    )[0]
    assert not same(ours, plain)
