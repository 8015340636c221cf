"""Progress within an epoch: a tick per batch, which changes no result."""

from pathlib import Path

import pytest
from prepkd.training.progress import BatchProgress
from small_training import COUNT, fit, same, settings


def test_a_tick_per_batch_has_the_place_and_the_loss_so_far(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int, float]] = []

    def on_step(tick: BatchProgress) -> None:
        seen.append((tick.epoch, tick.done, tick.count, tick.loss()))

    chosen = settings(epochs=2, batch_size=48)
    weights, history = fit(tmp_path / "shown.pt", chosen, on_step=on_step)
    ends = [min(start + 48, COUNT) for start in range(0, COUNT, 48)]
    assert [one[:3] for one in seen] == [(epoch, done, COUNT) for epoch in range(2) for done in ends]
    for epoch, row in enumerate(history):
        last = [loss for number, done, _, loss in seen if number == epoch and done == COUNT]
        assert last == [pytest.approx(row["train/loss"], rel=1e-6)]
    unseen, _ = fit(tmp_path / "unseen.pt", chosen)
    assert same(weights, unseen), "showing progress changes no bit"


def test_a_resumed_run_ticks_for_what_is_left(tmp_path: Path) -> None:
    chosen, seen = settings(epochs=2, batch_size=48), []
    fit(tmp_path / "run.pt", chosen)
    fit(tmp_path / "run.pt", chosen, on_step=seen.append)
    assert seen == []
