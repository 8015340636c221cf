"""Plans of weak and strong views: each kind is a plan of its own, rows state their kind, and all other behaviour is unchanged."""

from typing import Any

import numpy as np
import pytest
import torch
from prepkd.runtime.streams import Purpose
from prepkd.views import PairedPlan, ViewPlan, make_plan, read_plan

WEAK: list[Any] = [{"crop": {"padding": 1}}, "flip"]
STRONG: list[Any] = [{"crop": {"padding": 2}}, {"randaugment": {"ops": 2}}, "erase"]
COUNT = 40
IMAGES = torch.randint(0, 256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def paired(views: Any = 3, seed: int = 5, strong: list[Any] = STRONG) -> PairedPlan:
    return PairedPlan(WEAK, views, seed, COUNT, strong)


@pytest.mark.parametrize("views", [3, "all"])
def test_each_half_is_a_plan_of_its_own_kind(views: Any) -> None:
    plan, weak = paired(views), ViewPlan(WEAK, views, 5, COUNT)
    strong = ViewPlan(STRONG, weak.views, 5, COUNT, purpose=Purpose.STRONG_VIEWS)
    assert plan.views == 2 * weak.views and plan.weak.fingerprint == weak.fingerprint
    for kind, one in enumerate((weak, strong)):
        for view in range(one.views):
            rows = plan.parameters(view + kind * weak.views)
            assert (rows[:, 0] == kind).all() and rows.dtype == plan.dtype
            width = len(one.ranges)
            assert np.array_equal(rows[:, 1 : 1 + width], one.parameters(view)) and not rows[:, 1 + width :].any()
            pixels = plan.render(IMAGES, torch.from_numpy(rows))
            assert torch.equal(pixels, one.render(IMAGES, torch.from_numpy(one.parameters(view))))


def test_rows_of_both_kinds_are_rendered_together() -> None:
    plan = paired("all")
    views = np.random.default_rng(0).integers(0, plan.views, COUNT)
    samples = np.random.default_rng(1).permutation(COUNT)
    rows = plan.parameters(views, samples)
    each = np.concatenate([plan.parameters(int(v), np.array([i])) for v, i in zip(views, samples, strict=True)])
    assert np.array_equal(rows, each) and 0 < rows[:, 0].mean() < 1
    alone = [plan.render(IMAGES[[i]], torch.from_numpy(row[None])) for i, row in zip(samples, rows, strict=True)]
    assert torch.equal(plan.render(IMAGES[samples], torch.from_numpy(rows)), torch.cat(alone))
    as_list = [IMAGES[i] for i in samples]
    sized = PairedPlan([{"resized-crop": {"size": 6}}], 2, 0, COUNT, [{"resized-crop": {"size": 6}}, "flip"])
    rows = sized.parameters(views % 4, samples)
    assert torch.equal(
        sized.render(as_list, torch.from_numpy(rows)), sized.render(IMAGES[samples], torch.from_numpy(rows))
    )


def test_strong_views_share_no_words_with_weak_ones() -> None:
    """Both kinds have the same recipe, so that shared words would give equal rows."""
    plan = PairedPlan(["erase"], 2, 0, COUNT, ["erase"])
    rows = np.stack([plan.parameters(view)[:, 1:] for view in range(4)])
    assert len(np.unique(rows.reshape(-1, rows.shape[-1]), axis=0)) == 4 * COUNT


def test_a_slice_is_the_slice_of_the_whole_and_outside_is_an_index_error() -> None:
    plan = paired()
    for view in range(plan.views):
        assert np.array_equal(plan.parameters(view, slice(7, 20)), plan.parameters(view)[7:20])
    assert plan.parameters(0, slice(0, 0)).shape == (0, len(plan.ranges))
    assert plan.render(IMAGES[:0], torch.from_numpy(plan.parameters(0, slice(0, 0)))).shape == (0, 3, 8, 8)
    for view, samples in ((-1, slice(None)), (plan.views, slice(None)), (0, np.array([COUNT]))):
        with pytest.raises(IndexError, match="outside the plan"):
            plan.parameters(view, samples)


@pytest.mark.parametrize("views", [3, "all"])
def test_a_description_makes_the_same_plan(views: Any) -> None:
    plan = paired(views)
    found = read_plan(plan.describe())
    assert isinstance(found, PairedPlan) and found.fingerprint == plan.fingerprint
    assert np.array_equal(found.parameters(plan.views - 1), plan.parameters(plan.views - 1))
    with pytest.raises(ValueError, match="read_plan"):
        ViewPlan.from_description(plan.describe())
    assert "strong=" in repr(plan)


def test_without_a_strong_recipe_a_plan_is_what_it_was() -> None:
    plan = make_plan(WEAK, "all", 0, COUNT)
    assert type(plan) is ViewPlan and plan.weak is plan and plan.strong is None and "strong" not in plan.describe()
    assert type(read_plan(plan.describe())) is ViewPlan


@pytest.mark.parametrize(
    ("weak", "strong", "message"),
    [
        (WEAK, [], "has no steps"),
        (WEAK, ["mixup"], "mixes samples"),
        ([*WEAK, "cutmix"], STRONG, "mixes samples"),
        (WEAK, [{"resized-crop": {"size": 6}}], "differ in size"),
        ([{"resized-crop": {"size": 6}}], ["flip", {"resized-crop": {"size": 6}}], "differ in size"),
        (WEAK, ["solarise"], "no augmentation 'solarise'"),
    ],
)
def test_pairs_without_a_meaning_are_refused(weak: list[Any], strong: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairedPlan(weak, 2, 0, COUNT, strong)


def test_too_many_views_are_refused() -> None:
    with pytest.raises(ValueError, match="of two kinds; give a smaller count"):
        PairedPlan(["erase"], 2**30, 0, COUNT, ["erase"])
