"""Evaluation between epochs: it uses the current weights, runs as often as requested, and leaves training unchanged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.models.new import new_model
from prepkd.training import evaluation
from prepkd.training.checkpoints import load_state
from prepkd.training.evaluation import evaluate, predict, top1
from small_training import DATASET, EPOCHS, fit, same, settings, timeless
from torch import nn

NAMES = {f"{name}/top1" for name in DATASET.held_out}


def figures(model: nn.Module) -> dict[str, float]:
    return {f"{name}/top1": top1(predict(model, part), part.labels) for name, part in DATASET.held_out.items()}


def test_an_evaluation_is_of_every_held_out_split() -> None:
    model = new_model("convnet4", DATASET, 0)
    found = evaluate(model, DATASET.held_out)
    assert found == figures(model) and found.keys() == NAMES
    pixels = DATASET.held_out["val"].images.float() / 255
    right = (model.eval()(pixels).argmax(dim=1) == DATASET.held_out["val"].labels).float().mean()
    assert found["val/top1"] == pytest.approx(float(right))


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}])
@pytest.mark.parametrize(("every", "evaluated"), [(1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2, 3]), (9, [3])])
def test_it_happens_every_so_many_epochs_and_after_the_last(
    every: int, evaluated: list[int], changes: dict[str, Any], tmp_path: Path
) -> None:
    weights, history = fit(tmp_path / "each.pt", settings(**changes))
    again, rows = fit(tmp_path / "some.pt", settings(**changes, evaluate_every=every))
    assert same(again, weights)
    assert len(rows) == EPOCHS
    for epoch, (row, full) in enumerate(zip(timeless(rows), timeless(history), strict=True)):
        left_out = set() if epoch in evaluated else NAMES
        assert row == {key: value for key, value in full.items() if key not in left_out}


def test_early_stopping_needs_every_epochs_figures() -> None:
    assert settings(early_stop={"patience": 2}, evaluate_every=1).evaluate_every == 1
    with pytest.raises(
        ValueError, match="early_stop compares val after every epoch and evaluate_every is 2; expected 1"
    ):
        settings(early_stop={"patience": 2}, evaluate_every=2)


class Own(nn.Module):
    """A user's own model, whose logits depend on state that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, DATASET.classes)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.passes += 1
        return self.fc(x.flatten(1)) * self.passes


def test_the_model_itself_is_evaluated(tmp_path: Path) -> None:
    model = Own()
    _, history = fit(tmp_path / "run.pt", settings(), model=model)
    assert {key: history[-1][key] for key in NAMES} == figures(model)


@pytest.mark.parametrize("changes", [{}, {"early_stop": {"patience": 9}}, {"early_stop": {"patience": 9}, "ema": 0.5}])
@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_ctrl_c_during_an_evaluation_keeps_the_epochs_before(
    epoch: int, changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(checkpoint_every=99, **changes)
    whole, history = fit(tmp_path / "whole.pt", chosen)
    calls: list[int] = []

    def interrupted(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == (epoch + 1) * len(DATASET.held_out):
            raise KeyboardInterrupt
        return top1(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "top1", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut.pt", chosen)
    assert len(load_state(tmp_path / "cut.pt", {})) == epoch
    weights, rows = fit(tmp_path / "cut.pt", chosen)
    assert same(weights, whole)
    assert timeless(rows) == timeless(history)
