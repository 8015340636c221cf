"""Early stopping: val decides when to stop and which weights to keep; the test set decides nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prepkd.errors import InputError
from prepkd.models.new import new_model
from prepkd.training import evaluation
from prepkd.training.checkpoints import Row
from prepkd.training.stopping import card_entry, is_over, kept_epoch
from small_training import DATASET, fit, same, settings, stop_after, timeless
from torch import Tensor


@pytest.mark.parametrize(
    ("scores", "patience", "length", "kept"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 4, 3),  # always better: all epochs run
        ([0.5, 0.4, 0.6, 0.7], 1, 2, 0),
        ([0.5, 0.4, 0.6, 0.7], 2, 4, 3),
        ([0.5, 0.5, 0.5, 0.5], 2, 3, 0),  # an equal score is not better, and the first of equal epochs is kept
        ([0.2, 0.6, 0.4, 0.5], 2, 4, 1),
    ],
)
def test_a_scripted_curve(
    scores: list[float], patience: int, length: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "top1", script(scores))
    model, seen = new_model("convnet4", DATASET, 0), []

    def on_epoch(row: Row) -> None:
        seen.append({key: value.clone() for key, value in model.state_dict().items()})

    chosen = settings(early_stop={"patience": patience})
    weights, history = fit(tmp_path / "run.pt", chosen, model=model, on_epoch=on_epoch)
    assert [row["val/top1"] for row in history] == scores[:length]
    assert same(weights, seen[kept])
    assert kept_epoch(chosen, history) == kept
    assert card_entry(chosen, history) == {"kept_epoch": kept}


def test_an_epoch_without_finite_logits_is_never_the_best() -> None:
    chosen = settings(early_stop={"patience": 3})
    assert kept_epoch(chosen, [{}, {"val/top1": 0.0}, {"val/top1": 0.2}, {}]) == 2


def script(scores: Sequence[float]) -> Any:
    """Return a stand-in for `top1`: scripted scores of val, and scores of test that would select the last epoch."""
    shown = {"val": list(scores), "test": [0.1, 0.2, 0.3, 0.9]}

    def scripted(logits: Tensor, labels: Tensor) -> float:
        return shown["val" if len(labels) == len(DATASET.held_out["val"]) else "test"].pop(0)

    return scripted


def test_without_it_the_last_epoch_stays_and_the_card_says_nothing() -> None:
    history = [{"test/top1": 0.9}, {"test/top1": 0.1}]
    chosen = settings(epochs=2)
    assert (kept_epoch(chosen, history), card_entry(chosen, history)) == (1, {})
    assert is_over(chosen, history) and not is_over(chosen, history[:1])
    assert not is_over(settings(early_stop={"patience": 1}), [])


def test_a_run_that_was_stopped_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(early_stop={"patience": 1}, checkpoint_every=9)
    monkeypatch.setattr(evaluation, "top1", script([0.5, 0.4]))
    weights, history = fit(tmp_path / "run.pt", chosen)
    reported: list[Row] = []

    def views_of(epoch: int) -> int:
        raise AssertionError(f"epoch {epoch} is trained")

    again, rows = fit(
        tmp_path / "run.pt",
        chosen,
        model=new_model("convnet4", DATASET, 9),
        views_of=views_of,
        on_epoch=reported.append,
    )
    assert same(again, weights)
    assert rows == history == reported and len(rows) == 2


def test_an_interrupted_run_remembers_its_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is interrupted after its best epoch, before the patience runs out."""
    chosen = settings(early_stop={"patience": 2}, ema=0.5)
    monkeypatch.setattr(evaluation, "top1", script([0.5, 0.4, 0.3]))
    weights, history = fit(tmp_path / "whole.pt", chosen)
    monkeypatch.setattr(evaluation, "top1", script([0.5, 0.4]))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut.pt", chosen, on_epoch=stop_after(1, KeyboardInterrupt))
    monkeypatch.setattr(evaluation, "top1", script([0.4, 0.3]))  # the interrupted epoch runs again
    resumed, rows = fit(tmp_path / "cut.pt", chosen, model=new_model("convnet4", DATASET, 9))
    assert same(resumed, weights)
    assert len(rows) == len(history) == 3
    assert [row["train/loss"] for row in timeless(rows)] == [row["train/loss"] for row in history]


@pytest.mark.parametrize("held_out", [{}, {"test": DATASET.held_out["test"]}])
def test_without_val_it_is_refused(held_out: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fit(tmp_path / "run.pt", settings(early_stop={"patience": 1}), held_out=held_out)
    assert str(caught.value) == (
        "early_stop watches val, and the data has none; expected prepare.val_fraction > 0, e.g. 0.1, and `prepkd prepare` "
        "again, or early_stop: null"
    )
    assert not (tmp_path / "run.pt").exists()
