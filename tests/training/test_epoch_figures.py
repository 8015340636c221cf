"""Figures of an epoch: they cover the epoch's samples, training answers, and predictions in evaluation mode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.distillation.student_settings import Distill
from prepkd.methods.objective import Objective
from prepkd.models.new import new_model
from prepkd.training import loop as train_module
from prepkd.training.evaluation import predict, top1
from prepkd.training.loop import summarise
from small_training import (
    CLASSES,
    COUNT,
    DATASET,
    EPOCHS,
    Answers,
    cross_entropy,
    fit,
    settings,
    timeless,
)
from torch import Tensor
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("one_thread")


def recording(settings: Distill, log: list[dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    def loss(logits: Tensor, labels: Tensor, offsets: Tensor, row_max: Tensor) -> dict[str, Tensor]:
        teacher = {"logits": offsets, "row_max": row_max}
        values = Objective(settings.terms)({"logits": logits}, labels, teacher)
        log.append({key: value.detach() for key, value in values.items()})
        return values

    return loss


def test_a_row_holds_the_figures_of_the_epoch(tmp_path: Path) -> None:
    chosen = Distill.model_validate(
        settings(epochs=2).model_dump(exclude_unset=True)
        | {"teacher": "t", "student": "convnet4", "method": "ka-lsr+dtd-cwsm", "ce_weight": 0.2}
        | {"dtd": {"tau_0": 4.0, "tau_min": 3.99, "tau_max": 4.02}}
    )
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(COUNT, CLASSES, generator=generator) + 2 * F.one_hot(DATASET.samples.labels, CLASSES)
    answers = {"logits": (logits - logits.amax(1, keepdim=True)).half(), "row_max": logits.amax(1)}
    log: list[dict[str, Tensor]] = []
    model = new_model("convnet4", DATASET, 0)
    _, history = fit(
        tmp_path / "run.pt", chosen, model=model, loss=recording(chosen, log), teacher=Answers(lambda views: answers)
    )
    for epoch, row in enumerate(history):
        assert set(row) == {
            "epoch",
            "lr",
            "samples_per_second",
            "val/top1",
            "test/top1",
            *(f"train/{name}" for name in ("loss", "ce", "kd", "top1", "adjusted")),
            *(f"train/{name}" for name in ("tau", "tau_min", "tau_max", "tau_clamped")),
            *(f"train/tau_p{percent}" for percent in (5, 25, 50, 75, 95)),
            *(f"train/{name}" for name in ("gradient_adjusted", "gradient_untouched")),
        }
        assert row["epoch"] == epoch
        assert 0 < row["samples_per_second"] < 1e7
        steps = log[5 * epoch : 5 * epoch + 5]
        for name in ("loss", "ce", "kd", "adjusted", "tau", "tau_clamped"):
            values = [float(value) for step in steps for value in step[name]]
            assert len(values) == COUNT
            assert row[f"train/{name}"] == pytest.approx(sum(values) / COUNT, rel=1e-5)
        temperatures = [float(value) for step in steps for value in step["tau"]]
        assert row["train/tau_min"] == min(temperatures)
        assert row["train/tau_max"] == max(temperatures)
        for percent in (5, 25, 50, 75, 95):
            below = sum(value < row[f"train/tau_p{percent}"] for value in temperatures)
            upto = sum(value <= row[f"train/tau_p{percent}"] for value in temperatures)
            assert below <= percent / 100 * (COUNT - 1) + 0.5 <= upto
        assert row["train/loss"] == pytest.approx(0.2 * row["train/ce"] + 0.8 * row["train/kd"], rel=1e-5)
        wrong = [i for i in range(COUNT) if logits[i].argmax() != DATASET.samples.labels[i]]
        assert row["train/adjusted"] == pytest.approx(len(wrong) / COUNT)
        assert 0 < row["train/adjusted"] < 1
        assert 0 < row["train/tau_clamped"] < 1
    for name, part in DATASET.held_out.items():
        pixels = part.images.float() / 255
        right = sum(int(model.eval()(pixels[i : i + 1]).argmax() == part.labels[i]) for i in range(len(part.labels)))
        assert history[-1][f"{name}/top1"] == pytest.approx(right / len(part.labels))


def test_train_top1_counts_the_answers_of_training(tmp_path: Path) -> None:
    right: list[float] = []

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        right.extend(float(logits[i].argmax() == labels[i]) for i in range(len(labels)))
        return cross_entropy(logits, labels)

    _, history = fit(tmp_path / "run.pt", settings(), loss=loss)
    assert [row["train/top1"] for row in history] == pytest.approx(
        [sum(right[e * COUNT : (e + 1) * COUNT]) / COUNT for e in range(EPOCHS)]
    )
    assert history[-1]["train/top1"] > history[0]["train/top1"]


def test_a_group_without_samples_is_left_out() -> None:
    nan = torch.nan
    groups = {"gradient_adjusted": torch.tensor([nan, nan]), "gradient_untouched": torch.tensor([4.0, nan])}
    figures = {"loss": torch.tensor([1.0, 2.0])} | groups
    assert summarise(figures) == {"train/loss": 1.5, "train/gradient_untouched": 4.0}


def test_figures_are_kept_though_the_next_step_writes_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replayed CUDA graph overwrites the values of whole batches in this way."""
    _, expected = fit(tmp_path / "plain.pt", settings())
    make = train_module.make_gradients

    def make_gradients(*arguments: Any) -> Any:
        gradients, memory = make(*arguments), {}

        def run(*batch: Tensor) -> Any:
            values = gradients(*batch)
            if len(batch[0]) < settings().batch_size:
                return values
            for name, value in values.items():
                memory.setdefault(name, torch.empty_like(value)).copy_(value)
            return memory

        return run

    monkeypatch.setattr(train_module, "make_gradients", make_gradients)
    _, found = fit(tmp_path / "replayed.pt", settings())
    assert timeless(found) == timeless(expected)


def test_predict_is_the_model_in_evaluation_mode_whatever_the_batches() -> None:
    model = new_model("convnet4", DATASET, 0)
    images, labels = DATASET.samples.images, DATASET.samples.labels
    model.train()
    model(images.float() / 255)
    whole = predict(model, DATASET.samples)
    assert not model.training
    assert whole.dtype == torch.float32
    torch.testing.assert_close(predict(model, DATASET.samples, batch_size=7), whole, rtol=1e-5, atol=1e-5)
    assert top1(whole, labels) == pytest.approx(
        sum(int(a.argmax() == b) for a, b in zip(whole, labels, strict=True)) / COUNT
    )
