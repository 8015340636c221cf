"""Evaluation beside training: the figures of the weights that it was asked about, whoever computes them and when."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import torch
from prepkd.models.new import new_model
from prepkd.training import evaluation
from prepkd.training.checkpoints import load_state, save_state
from prepkd.training.evaluation import Evaluation, is_known, predict, top1
from small_training import DATASET, fit, same, settings, timeless
from torch import Tensor, nn
from torch.nn import functional as F

CPU = torch.device("cpu")
PIXELS = 64


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One of two processors is idle, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("prepkd.runtime.processors.processors", lambda: 2)
    yield
    torch.set_num_threads(before)


def figures(model: nn.Module) -> dict[str, float]:
    return {f"{name}/top1": top1(predict(model, part), part.labels) for name, part in DATASET.held_out.items()}


def spoil(model: nn.Module) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))


def test_what_training_does_meanwhile_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model("convnet4", DATASET, 0)
    expected = figures(model)
    evaluate = Evaluation(model, DATASET.held_out, CPU)
    assert evaluate.spare is not None

    def late(*arguments: Any, **options: Any) -> Tensor:
        spoil(model)
        return predict(*arguments, **options)

    monkeypatch.setattr(evaluation, "predict", late)
    model.train()
    assert evaluate().result() == expected != figures(model)
    assert model.training is False  # by `figures`, not by the evaluation
    model.train()
    assert evaluate().result() and model.training


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}, {"early_stop": {"patience": 2}}])
def test_beside_and_in_between_are_the_same(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, history = fit(tmp_path / "beside.pt", settings(**changes))
    monkeypatch.setattr("prepkd.runtime.processors.processors", lambda: 1)
    assert Evaluation(new_model("convnet4", DATASET, 0), DATASET.held_out, CPU).spare is None
    again, rows = fit(tmp_path / "between.pt", settings(**changes))
    assert same(again, weights)
    assert timeless(rows) == timeless(history)
    assert {f"{name}/top1" for name in DATASET.held_out} <= history[-1].keys()


def test_a_run_that_was_killed_while_it_was_evaluated_is_evaluated_when_it_goes_on(tmp_path: Path) -> None:
    path, chosen = tmp_path / "run.pt", settings(checkpoint_every=1)
    whole, history = fit(tmp_path / "whole.pt", chosen)
    saved: list[int] = []
    with pytest.raises(MemoryError):  # the epoch after it goes wrong
        fit(path, chosen, loss=failing(at=len(history) // 2, saved=saved))
    assert saved
    state = torch.load(path, weights_only=True)
    rows = load_state(path, {})
    for name in DATASET.held_out:
        rows[-1].pop(f"{name}/top1", None)
    save_state(path, {key: value for key, value in state.items() if key != "history"}, rows)
    reported: list[dict[str, float]] = []
    weights, again = fit(path, chosen, on_epoch=reported.append)
    assert same(weights, whole)
    assert timeless(again) == timeless(reported) == timeless(history)


def failing(at: int, saved: list[int]) -> Callable[..., dict[str, Tensor]]:
    """A loss that can't go on in epoch `at`, of five steps each."""

    def loss(logits: Tensor, labels: Tensor, *_: object) -> dict[str, Tensor]:
        saved.append(len(saved))
        if len(saved) > 5 * at:
            raise MemoryError
        return {"loss": F.cross_entropy(logits, labels, reduction="none")}

    return loss


class Own(nn.Module):
    """Somebody's own: what it keeps, and where, is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(PIXELS, DATASET.classes)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return self.fc(x.flatten(1)) * self.passes


def hooked() -> nn.Module:
    """Its hook writes where a copy's hook would write too."""
    model = new_model("convnet4", DATASET, 0)
    model.register_forward_hook(lambda module, inputs, output: None)
    return model


def patched() -> nn.Module:
    """A copy's forward pass would be the model's."""
    model = new_model("convnet4", DATASET, 0)
    before = model.forward
    model.forward = lambda x: before(x)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("made", [Own, hooked, patched])
def test_a_model_of_somebodys_own_is_evaluated_itself(made: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = made()
    assert not is_known(model) and Evaluation(model, DATASET.held_out, CPU).spare is None
    _, history = fit(tmp_path / "run.pt", settings(), model=model)
    assert {key: history[-1][key] for key in figures(model)} == figures(model)


@pytest.mark.parametrize("name", ["convnet4", "resnet8", "mobilenetv2", "vgg8"])
def test_a_copy_is_taken_of_a_known_model(name: str) -> None:
    model = new_model(name, DATASET, 0)
    spare = Evaluation(model, DATASET.held_out, CPU).spare
    assert spare is not None and spare is not model
    assert same(spare.state_dict(), model.state_dict())


def test_nobody_waits_for_an_evaluation_that_was_stopped() -> None:
    evaluate = Evaluation(new_model("convnet4", DATASET, 0), DATASET.held_out, CPU)
    evaluate.stopped.set()
    with pytest.raises(CancelledError):
        evaluate().result()


@pytest.mark.parametrize("changes", [{}, {"early_stop": {"patience": 9}}, {"early_stop": {"patience": 9}, "ema": 0.5}])
def test_ctrl_c_while_the_last_epoch_is_evaluated_loses_no_epoch(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(checkpoint_every=99, **changes)
    whole, history = fit(tmp_path / "whole.pt", chosen)
    calls: list[int] = []

    def interrupted(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == (len(history) if not changes else 2) * len(DATASET.held_out):
            raise KeyboardInterrupt
        return top1(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "top1", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut.pt", chosen)
    assert len(load_state(tmp_path / "cut.pt", {})) == (len(history) if not changes else 2)
    weights, rows = fit(tmp_path / "cut.pt", chosen)
    assert same(weights, whole)
    assert timeless(rows) == timeless(history)


def test_the_best_epoch_is_kept_though_it_was_interrupted_before_that_was_noted(tmp_path: Path) -> None:
    chosen = settings(early_stop={"patience": 9}, checkpoint_every=1)
    path = tmp_path / "run.pt"
    with pytest.raises(MemoryError):
        fit(path, chosen, loss=failing(at=1, saved=[]))
    state = torch.load(path, weights_only=True)
    assert len(state["history"]) == 1  # the only epoch is the best one
    rows = state.pop("history")
    rows[-1]["val/top1"] = 1.0  # nothing later is better
    save_state(path, state | {"best": {key: torch.zeros_like(value) for key, value in state["best"].items()}}, rows)
    weights, _ = fit(path, chosen)
    assert same(weights, state["model"])
