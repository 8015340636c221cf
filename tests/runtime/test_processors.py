"""Work beside the main thread uses only idle processors."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from encoded_files import RECIPE, SIZES, encoded, pictures
from prepkd.data.samples.samples import Samples
from prepkd.runtime.prefetch import overlap, prefetch
from prepkd.runtime.processors import compute_on, idle_processors, processors
from prepkd.views import ViewPlan
from small_training import DATASET
from torch import Tensor


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Make torch compute on two processors on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def have(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prepkd.runtime.processors.processors", lambda: count)


@pytest.mark.parametrize(("there", "idle"), [(1, 0), (2, 0), (3, 1), (8, 6)])
def test_processors_that_torch_does_not_use_are_idle(there: int, idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    have(there, monkeypatch)
    assert idle_processors() == idle
    assert DATASET.samples.prefetch_depth == (2 if idle else 0)


def test_processors_are_those_that_this_process_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert processors() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert processors() == os.cpu_count()


def threads(_: object = None) -> int:
    torch.ones(2).add_(1)
    return torch.get_num_threads()


def test_threads_beside_the_main_one_compute_on_one_processor_and_leave_it_its_own() -> None:
    assert list(prefetch(map(threads, range(3)), 2)) == [1, 1, 1]
    assert list(overlap(threads, range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 2
    compute_on(2)
    assert threads() == 2


def test_images_are_decoded_in_threads_of_one_processor_each(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, found, render = ViewPlan(RECIPE, 4, 0, 20), [], ViewPlan.render

    def noted(*arguments: Any) -> Tensor:
        found.append(threads())
        return render(*arguments)

    monkeypatch.setattr(ViewPlan, "render", noted)
    samples = Samples.of(encoded(pictures([SIZES[1]] * 20)), torch.device("cpu"), plan.recipe)
    samples.pixels(plan, *samples.view_rows(plan, 0, slice(0, 20)))
    assert found == [1, 1, 1]
    assert torch.get_num_threads() == 2
