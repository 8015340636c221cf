"""Batches of training steps: every sample once, in order, with its own view and teacher logits, at any batch size."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from encoded_files import RECIPE, SIZES, encoded, pictures
from prepkd.data.samples.samples import Samples
from prepkd.runtime import distributed
from prepkd.runtime.streams import Purpose
from prepkd.training.batches import Epoch, Epochs, batches
from prepkd.views import ViewPlan
from prepkd.views.order import sample_order
from small_training import CLASSES, COUNT, DATASET
from torch import Tensor

SAMPLES, PLAN = DATASET.samples, DATASET.plan
NAMES = ("logits", "row_max")


def epoch(plan: ViewPlan = PLAN, view: int = 3, answered: bool = True) -> Epoch:
    count = plan.samples
    answers = {
        "logits": torch.arange(count * CLASSES).view(count, CLASSES).half(),
        "row_max": torch.arange(count).float(),
    }
    order = torch.from_numpy(sample_order(0, 0, count))
    return Epoch(order, torch.from_numpy(plan.parameters(view)), answers if answered else {})


@pytest.mark.parametrize("size", [1, 16, COUNT, 100])
def test_batches_hold_the_samples_in_order_with_their_views_and_answers(size: int) -> None:
    shown = epoch()
    found = list(batches(DATASET, shown, NAMES, size, size))
    assert [len(batch[0]) for batch in found] == [size] * (COUNT // size) + ([COUNT % size] if COUNT % size else [])
    pixels, labels, _, offsets, row_max = (
        torch.cat(parts) if parts[0].ndim else torch.stack(parts) for parts in zip(*found, strict=True)
    )
    torch.testing.assert_close(pixels, SAMPLES.pixels(PLAN, shown.order, shown.rows[shown.order]), rtol=0, atol=0)
    assert torch.equal(labels, SAMPLES.labels[shown.order])
    assert torch.equal(offsets, shown.answers["logits"][shown.order])
    assert torch.equal(row_max, shown.answers["row_max"][shown.order])
    assert all(batch[0].is_contiguous(memory_format=torch.channels_last) for batch in found)


def test_without_a_teacher_there_are_no_answers() -> None:
    assert {len(batch) for batch in batches(DATASET, epoch(answered=False), (), 16, 16)} == {3}


@pytest.mark.parametrize(("size", "accumulate"), [(16, 1), (16, 2), (10, 3), (70, 1), (7, 10)])
def test_the_shares_of_a_steps_batches_are_their_samples(size: int, accumulate: int) -> None:
    group, seen = size * accumulate, 0
    steps: dict[int, list[tuple[int, float]]] = {}
    for pixels, _, share, *_ in batches(DATASET, epoch(), NAMES, size, group):
        steps.setdefault(seen // group, []).append((len(pixels), float(share)))
        seen += len(pixels)
    assert seen == COUNT
    for parts in steps.values():
        whole = sum(count for count, _ in parts)
        assert [share for _, share in parts] == pytest.approx([count / whole for count, _ in parts])


@pytest.mark.parametrize("block", [1, 10**4, 10**9])
def test_many_batches_rendered_at_once_are_the_same_batches(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering in blocks, as on the GPU, gives the same batches on this device."""
    monkeypatch.setattr("prepkd.training.batches.RENDERED_AT_ONCE", block)
    monkeypatch.setattr(Samples, "resident", True)
    ours = list(batches(DATASET, epoch(), NAMES, 16, 16))
    monkeypatch.undo()
    for mine, theirs in zip(ours, batches(DATASET, epoch(), NAMES, 16, 16), strict=True):
        assert all(map(torch.equal, mine, theirs))


@pytest.mark.parametrize("last", [[], [{"mixup": {}}]], ids=str)
def test_encoded_images_give_the_batches_of_arrays(last: list[Any]) -> None:
    files = pictures([SIZES[1]] * 9)
    split, plan = encoded(files), ViewPlan([*RECIPE, *last], 4, 0, 9)
    arrays = Samples.of(
        replace(split, images=torch.tensor([f.tolist() for f in files]).byte().numpy()),
        torch.device("cpu"),
        plan.recipe,
    )
    shown = epoch(plan)
    decoded = Samples.of(split, torch.device("cpu"), plan.recipe)
    ours, theirs = (
        batches(replace(DATASET, samples=samples, plan=plan, classes=9), shown, NAMES, 4, 4)
        for samples in (decoded, arrays)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, mine, other))


@pytest.mark.parametrize("last", [[], [{"mixup": {}}]], ids=str)
def test_indices_of_encoded_images_stay_on_the_cpu(last: list[Any]) -> None:
    """Reading them from a GPU waits for its queue. A tensor on `meta` stands for one there: its values can't be read."""
    device, plan = torch.device("meta"), ViewPlan([*RECIPE, *last], 4, 0, 9)
    samples = Samples.of(encoded(pictures(SIZES + SIZES[1:])), device, plan.recipe)
    dataset = replace(DATASET, samples=samples, plan=plan, classes=9)
    strong = ViewPlan(RECIPE, 4, 0, 9, purpose=Purpose.STRONG_VIEWS)
    epochs = Epochs(dataset, lambda epoch: 2, 0, strong=strong)
    found = list(batches(dataset, epochs.read(0), epochs.answer_names, 4, 4))
    assert [len(batch[0]) for batch in found] == [4, 4, 1]
    assert all(one.device == device for batch in found for one in batch)
    chosen, rows = samples.view_rows(plan, 1, slice(2, 5))
    assert samples.pixels(plan, chosen, rows).device == device
    assert samples.targets(plan, chosen, rows, 9).device == device
    assert samples.evaluation_pixels(slice(0, 3)).device == device


def test_each_process_decodes_its_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is decoded by only one process, and the joined shares are the batches of a single process."""
    split, plan = encoded(pictures([SIZES[1]] * 9)), ViewPlan(RECIPE, 4, 0, 9)
    samples = Samples.of(split, torch.device("cpu"), plan.recipe)
    dataset, shown = replace(DATASET, samples=samples, plan=plan, classes=9), epoch(plan)
    asked: list[int] = []
    decode = type(split.images).decode
    monkeypatch.setattr(type(split.images), "decode", lambda self, rows: asked.extend(rows) or decode(self, rows))
    alone = [batch[0] for batch in batches(dataset, shown, NAMES, 4, 4)]
    assert sorted(map(int, asked)) == list(range(9))
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    shares: list[list[Tensor]] = []
    asked.clear()
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append([batch[0] for batch in batches(dataset, shown, NAMES, 4, 4)])
    assert sorted(map(int, asked)) == list(range(9))
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(whole, torch.cat(parts))
