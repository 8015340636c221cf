"""Runs of students: seeds are shared by methods, fingerprints cover used settings, finished seeds are not retrained."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.data.samples.dataset import Dataset
from prepkd.distillation import student as students
from prepkd.distillation.distill import late_terms
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.methods.term import FeatureTerm
from prepkd.methods.terms import SECTIONS, TERMS
from prepkd.models import Normalised
from prepkd.runtime.files import fingerprint
from prepkd.store import LogitStore
from prepkd.training.batches import Epochs, Views
from prepkd.training.checkpoints import TRAINING_VERSION, Row
from small_training import Answers, context_in, same, timeless
from student_runs import RUNS, cached, dataset_of, settings, trained_seeds
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")


class Spy:
    """A stand-in for `train` that notes its arguments and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        monkeypatch.setattr(students, "train", self)

    def __call__(
        self, model: Normalised, objective: object, dataset: Dataset, epochs: Epochs, settings: Distill, **named: Any
    ) -> list[Row]:
        start = {key: value.clone() for key, value in model.state_dict().items()}
        run = {"seed": epochs.seed, "views_of": epochs.views_of, "teacher": epochs.teacher}
        self.calls.append(named | run | {"start": start})
        return []

    def run(self, chosen: Distill, **changes: Any) -> str:
        """Return the scratch fingerprint of the run's first seed."""
        named: list[str] = []
        before = len(self.calls)

        def scratch(fingerprint: str) -> Path:
            named.append(fingerprint)
            return Path(fingerprint)

        changes.setdefault("objective", lambda: Objective(settings("kd").terms))  # feature terms would need shapes
        trained_seeds(chosen, dataset_of("sampled"), lambda views: None, Path(), scratch=scratch, **changes)  # type: ignore[arg-type, return-value]
        folders = [str(call["checkpoint"].parent) for call in self.calls[before:]]
        # Two processes that take several locks must take them in one order, or each might wait for the other.
        assert named == sorted(folders)
        return folders[0]


@pytest.mark.parametrize("order", ["cycle", "random"])
def test_a_seed_means_the_same_to_every_method(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    for run in RUNS:
        spy.run(settings(run, seeds=[4, 9], view_order=order))
    assert [call["seed"] for call in spy.calls] == [4, 9] * len(RUNS)
    for seed, first in enumerate(spy.calls[:2]):
        for call in spy.calls[seed::2]:
            assert same(call["start"], first["start"])
            for epoch in range(4):
                assert torch.equal(torch.as_tensor(call["views_of"](epoch)), torch.as_tensor(first["views_of"](epoch)))
    assert not same(spy.calls[0]["start"], spy.calls[1]["start"])
    assert [call["teacher"] is None for call in spy.calls[::2]] == [run == "ce" for run in RUNS]


OTHER_SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "batch_norm": "local",
    "accumulate": 2,
    "optimizer": "adamw",
    "lr": 0.06,
    "momentum": 0.8,
    "nesterov": True,
    "adamw": {"eps": 1e-6},
    "weight_decay": 1e-4,
    "clip_grad_norm": 1.0,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "milestones": [1],
    "lr_decay": 0.2,
    "weights": "start.pth",
    "weights_key": "model_ema",
    "preprocessing": {"mean": [0.5], "std": [0.25]},
    "label_smoothing": 0.1,
    "ema": 0.9,
    "early_stop": {"patience": 2},
    "precision": "bf16",
    "compile": True,
    "checkpoint_every": 1,
    "evaluate_every": 2,
    "deterministic": True,
    "teacher": "small",
    "teachers": ["small"],
    "ensemble": {"combine": "logits"},
    "student": "convnet8",
    "method": "ka-ps",
    "seeds": [0, 1],
    "source": "online",
    "view_order": "random",
    "resident_gib": 1.0,
    "views_per_step": 2,
    "ce_weight": 0.5,
    "kd_weight": 0.5,
    "kd": {"tau": 3.0},
    "ka": {"eps": 0.2},
    "dtd": {"tau_min": 1.5},
    "dkd": {"beta": 2.0},
    "dist": {"beta": 2.0},
    "nkd": {"gamma": 2.0},
    "rld": {"tau_a": 2.0},
    "luminet": {"alpha": 2.0},
    "sld": {"temperatures": [2.0]},
    "mlkd": {"form": "as-published"},
    "crld": {"same_view": 1.0},
    "lsr": {"eps": 0.2},
    "disturb_label": {"alpha": 0.2},
    "tf_kd_virtual": {"alpha": 0.2},
    "noisy_teacher": {"sigma": 0.2},
    "label_revision": {"eta": 0.2},
}
OF_FEATURES = {term.section: name for name, term in TERMS.items() if issubclass(term, FeatureTerm) and term.section}
OTHER_SETTINGS |= {section: {"weight": 10.0} for section in OF_FEATURES} | {"own": {"huber": {"delta": 2.0}}}


@pytest.mark.parametrize("key", Distill.model_fields)
def test_every_setting_that_changes_a_run_changes_its_fingerprint(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    monkeypatch.setattr("prepkd.training.initial.load_given", lambda *_: None)
    base: dict[str, Any] = {
        "milestones": {"schedule": "multi-step", "milestones": [2]},
        "lr_decay": {"schedule": "multi-step", "milestones": [2]},
        "warmup_epochs": {"schedule": "cosine"},
        "weights_key": {"weights": "start.pth"},
        "adamw": {"optimizer": "adamw"},
        "ensemble": {"teachers": ["large", "small"]},
        "ka": {"method": "ka-lsr"},
        "dtd": {"method": "dtd-flsw"},
        **{name: {"method": name} for name in ("dkd", "dist", "nkd", "rld", "luminet", "sld")},
        **{name: {"method": name, "views_per_step": 2} for name in ("mlkd", "crld")},
        **{name.replace("-", "_"): {"method": name} for name in ("lsr", "disturb-label", "tf-kd-virtual")},
        **{name.replace("-", "_"): {"method": name} for name in ("noisy-teacher", "label-revision")},
        **{section: {"method": f"kd+{name}", "source": "online"} for section, name in OF_FEATURES.items()},
    }.get(key, {})
    ours, theirs = spy.run(settings(**base)), spy.run(settings(**base | {key: OTHER_SETTINGS[key]}))
    harmless = {"seeds", "resident_gib", "checkpoint_every", "own"}  # these don't change a seed's weights
    assert (ours == theirs) == (key in harmless)


def test_settings_of_terms_that_a_method_does_not_use_are_not_part_of_its_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spy = Spy(monkeypatch)
    unused = {
        "kd": ["ka", "dtd", "dkd", *OF_FEATURES, "adamw", "lr_decay", "ensemble"],
        "ka-ps+dtd-flsw": ["kd", "ka"],  # only ka-lsr uses eps and lsr_weight
        "ce": ["kd", "ka", "dtd", "teacher", "teachers", "source"],
    }
    for method, others in unused.items():
        ours = spy.run(settings(method))
        assert [spy.run(settings(method, **{key: OTHER_SETTINGS[key]})) for key in others] == [ours] * len(others)
    assert spy.run(settings("kd", ce_weight=0.1)) == spy.run(settings("kd"))  # 0.1 is the value of `auto`
    assert spy.run(settings("kd", teachers=["large"])) == spy.run(settings("kd", teacher="large"))
    adamw = {"optimizer": "adamw"}
    assert spy.run(settings(**adamw, momentum=0.5, nesterov=False)) == spy.run(settings(**adamw))
    for part, same_run in (("flsw", False), ("cwsm", True)):
        ours, other = settings("dtd-flsw", dtd={}), settings("dtd-flsw", dtd={part: {"beta": 0.7}})
        assert (spy.run(ours) == spy.run(other)) == same_run


def test_the_fingerprint_is_of_the_settings_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings()
    # Used by other optimisers and schedules, by terms of a user, or by several teachers.
    other = {"adamw", "milestones", "lr_decay", "warmup_epochs", "teacher", "own", "ensemble"}
    # The default batch_norm, "synchronised", is not part of the fingerprint.
    without_effect = {"seeds", "resident_gib", "checkpoint_every", "batch_norm"}
    used = chosen.model_dump(mode="json", exclude={*other, *without_effect, *SECTIONS.keys() - {"kd"}})
    used |= {"ce_weight": 0.1, "kd_weight": 0.9, "teachers": ["large"]}
    assert Spy(monkeypatch).run(chosen) == fingerprint(
        {"version": TRAINING_VERSION, "settings": used, "seed": 0, "inputs": {}}
    )


def test_seed_and_inputs_are_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    runs = [
        spy.run(settings(seeds=[0])),
        spy.run(settings(seeds=[1])),
        spy.run(settings(seeds=[0]), inputs={"teacher": "a"}),
        spy.run(settings(seeds=[0]), inputs={"teacher": "b"}),
    ]
    assert len(set(runs)) == 4


def test_finished_seeds_are_not_trained_again(store_of: Callable[[Dataset], LogitStore], tmp_path: Path) -> None:
    dataset = dataset_of("exhaustive")
    chosen = settings("ka-ps+dtd-flsw", seeds=3)
    source = cached(store_of(dataset), "cycle")
    asked: list[Views] = []

    def counted(views: Views) -> Mapping[str, Tensor]:  # called once per trained epoch
        asked.append(views)
        return source(views)

    def stop(seed: int, row: Row) -> None:
        if seed == 1:
            raise KeyboardInterrupt

    whole = trained_seeds(chosen, dataset, Answers(counted, prefetch_depth=0), tmp_path / "whole")
    assert len(asked) == 3 * 2
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        trained_seeds(
            chosen, dataset, Answers(counted, prefetch_depth=0), tmp_path / "cut", context=context_in(tmp_path, stop)
        )
    assert len(asked) == 2 + 1
    asked.clear()
    reported: list[tuple[int, float]] = []
    resumed = trained_seeds(
        chosen,
        dataset,
        Answers(counted, prefetch_depth=0),
        tmp_path / "cut",
        context=context_in(tmp_path, lambda seed, row: reported.append((seed, row["epoch"]))),
    )
    assert len(asked) == 0 + 1 + 2
    assert reported == [(seed, epoch) for seed in range(3) for epoch in range(2)]
    for seed, (weights, history) in whole.items():
        assert same(resumed[seed][0], weights)
        assert timeless(resumed[seed][1]) == timeless(history)


def test_another_number_of_seeds_keeps_those_that_are_trained(
    store_of: Callable[[Dataset], LogitStore], tmp_path: Path
) -> None:
    dataset = replace(dataset_of("sampled"), held_out={})
    source = cached(store_of(dataset), "cycle")
    few = trained_seeds(settings(seeds=2), dataset, source, tmp_path)
    more = trained_seeds(settings(seeds=[2, 1]), dataset, source, tmp_path)
    assert few[1][1] == more[1][1]  # equal times too: loaded, not trained
    assert same(few[1][0], more[1][0])
    assert list(more) == [2, 1]


@pytest.mark.parametrize(
    ("method", "changes", "note"),
    [
        ("dkd", {"epochs": 3}, "dkd.warmup_epochs 20 leaves none of 3 epochs in which dkd acts in full; lower it"),
        (
            "dtd-flsw+rld",
            {"epochs": 20},
            "rld.warmup_epochs 20 leaves none of 20 epochs in which rld acts in full; lower it",
        ),
        (
            "sld",
            {"epochs": 30, "sld": {"student_from_epoch": 150}},
            "sld.student_from_epoch 150 leaves none of 30 epochs in which sld acts in full; lower it",
        ),
        ("luminet", {"epochs": 3, "luminet": {"warmup_epochs": 1}}, None),
        ("kd", {"epochs": 1}, None),
    ],
)
def test_a_term_that_never_acts_in_full_is_noted(method: str, changes: dict[str, Any], note: str | None) -> None:
    assert late_terms(settings(method=method, **changes)) == ([note] if note else [])
