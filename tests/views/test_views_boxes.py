"""Boxes of resized crops and of erased areas: golden values, a naive reference, and torchvision's distribution."""

import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepkd.views import ViewPlan
from prepkd.views.boxes import FRACTIONS, INCREMENT, MULTIPLIER, draw_boxes, log_spaced
from prepkd.views.erase import Erase
from prepkd.views.resized_crop import ResizedCrop
from torchvision.transforms import v2

quick = settings(deadline=None, max_examples=200, derandomize=True)
sides = st.integers(1, 700)
fractions = st.lists(st.integers(0, FRACTIONS - 1), min_size=4, max_size=4)


def one_crop(row: list[int], height: int, width: int, step: ResizedCrop) -> list[int]:
    boxes = step.boxes(np.array([row]), np.array([height]), np.array([width]))
    return [int(side) for side in boxes[0]]


def naive_crop(row: list[int], height: int, width: int, step: ResizedCrop) -> list[int]:
    """Return the box of the documented rule in Python's numbers, with logarithms in place of the library's square roots."""
    area, shape, top, left = row
    low, high = step.ratio
    for _ in range(10):
        share = step.scale[0] + (step.scale[1] - step.scale[0]) * (area + 0.5) / 2**15
        ratio = math.exp(math.log(low) + (math.log(high) - math.log(low)) * (shape + 0.5) / 2**15)
        wide, tall = round(math.sqrt(height * width * share * ratio)), round(math.sqrt(height * width * share / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return [top * (height - tall + 1) // 2**15, left * (width - wide + 1) // 2**15, tall, wide]
        area, shape = (20077 * area + 12345) % 2**15, (20077 * shape + 12345) % 2**15
    return []


# Golden values: a cached answer stays right for its box only as long as these hold. docs/reference/views.md shows them.


GOLDEN_ROWS = {
    "resized-crop": [
        [12922, 32244, 8299, 25710],
        [16393, 8751, 27460, 28970],
        [12055, 7564, 13437, 19715],
        [22677, 22252, 29711, 3959],
        [26072, 25437, 23581, 16897],
    ],
    "erase": [
        [12922, 32244, 8299, 25710, 16393],
        [8751, 27460, 28970, 12055, 7564],
        [13437, 19715, 22677, 22252, 29711],
        [3959, 8826, 26398, 23421, 891],
        [31934, 32581, 20501, 2745, 21156],
    ],
}
GOLDEN_CROPS = {
    (32, 32): [[3, 7, 19, 24], [6, 9, 25, 22], [4, 8, 22, 19], [6, 0, 26, 29], [4, 1, 27, 31]],
    (400, 600): [
        [29, 177, 284, 375],
        [13, 233, 385, 337],
        [24, 185, 342, 293],
        [6, 19, 394, 437],
        [15, 105, 380, 396],
    ],
}
GOLDEN_ERASED = [[7, 9, 24, 14], [8, 1, 11, 27], [14, 13, 12, 18], [18, 0, 7, 15], [0, 0, 0, 0]]


@pytest.mark.parametrize("name", GOLDEN_ROWS)
def test_golden_rows(name: str) -> None:
    plan = ViewPlan([name], 8, 0, 1000)
    assert plan.parameters(0, np.array([0, 1, 2, 3, 999])).tolist() == GOLDEN_ROWS[name]
    assert plan.dtype == np.int16, "two bytes an integer in the store"


@pytest.mark.parametrize("size", GOLDEN_CROPS, ids=str)
def test_golden_crops(size: tuple[int, int]) -> None:
    assert [one_crop(row, *size, ResizedCrop()) for row in GOLDEN_ROWS["resized-crop"]] == GOLDEN_CROPS[size]


def test_golden_erased_boxes() -> None:
    assert Erase().boxes(np.array(GOLDEN_ROWS["erase"]), 32, 32).tolist() == GOLDEN_ERASED


def test_boxes_are_the_same_on_every_machine() -> None:
    """A single side in 50,000 boxes that is rounded differently changes the hash."""
    rows = ViewPlan(["resized-crop"], 1, 0, 50_000).parameters(0).astype(np.int64)
    boxes = ResizedCrop().boxes(rows, np.full(50_000, 375), np.full(50_000, 500))
    digest = hashlib.sha256(boxes.astype("<i4").tobytes()).hexdigest()
    assert digest == "354773005c24ec2a7e629c8660489ec927c5c66143df0391d2bd3b8ec63f624f"


# The rule


@quick
@given(fractions, sides, sides)
def test_a_crop_is_its_definition(row: list[int], height: int, width: int) -> None:
    step = ResizedCrop()
    naive = naive_crop(row, height, width, step)
    if naive:  # logarithms may differ in the last bit: a side that lies on a tie may round either way
        assert max(abs(a - b) for a, b in zip(one_crop(row, height, width, step), naive, strict=True)) <= 1


def test_the_definition_is_met_exactly_on_many_boxes() -> None:
    rows = ViewPlan(["resized-crop"], 1, 5, 3000).parameters(0).astype(int).tolist()
    for height, width in ((32, 32), (375, 500), (200, 90)):
        for row in rows:
            naive = naive_crop(row, height, width, ResizedCrop())
            assert naive in ([], one_crop(row, height, width, ResizedCrop()))


@quick
@given(
    fractions, sides, sides, st.tuples(st.floats(0, 1), st.floats(0, 1)), st.tuples(st.floats(-3, 3), st.floats(-3, 3))
)
def test_a_crop_lies_in_its_image(
    row: list[int], height: int, width: int, scale: tuple[float, float], powers: tuple[float, float]
) -> None:
    low, high = sorted(powers)
    step = ResizedCrop(scale=tuple(sorted(scale)), ratio=(max(10**low, 1e-3), min(10**high, 1e3)))
    top, left, tall, wide = one_crop(row, height, width, step)
    assert tall >= 1 and wide >= 1 and 0 <= top <= height - tall and 0 <= left <= width - wide


def test_where_nothing_fits_the_crop_is_torchvisions_central_one() -> None:
    """Areas above the ratio's limit: all ten draws fail in both implementations."""
    for height, width, ratio in [
        (100, 10, (0.75, 4 / 3)),
        (10, 100, (0.75, 4 / 3)),
        (31, 32, (3.0, 3.0)),
        (40, 40, (0.5, 0.5)),
    ]:
        theirs = v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=ratio).make_params([torch.zeros(1, height, width)])
        ours = one_crop([1, 2, 3, 4], height, width, ResizedCrop(scale=(1.0, 1.0), ratio=ratio))
        assert ours == [theirs[key] for key in ("top", "left", "height", "width")]


def test_every_place_is_taken() -> None:
    """The first fraction gives the first place, the last one the last; a box as large as its image has only one place."""
    step = ResizedCrop(scale=(0.25, 0.25), ratio=(1.0, 1.0))
    places = {one_crop([0, 0, f, f], 8, 8, step)[0] for f in range(0, FRACTIONS, 64)}
    assert places == set(range(5))
    counts = np.bincount([f * 5 >> 15 for f in range(FRACTIONS)])
    assert counts.max() - counts.min() <= 1
    assert one_crop([0, 0, FRACTIONS - 1, FRACTIONS - 1], 8, 8, ResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0))) == [
        0,
        0,
        8,
        8,
    ]


@pytest.mark.parametrize("ends", [(3 / 4, 4 / 3), (0.3, 3.3), (1.0, 1.0), (0.001, 1000.0)], ids=str)
def test_ratios_are_uniform_on_a_logarithmic_scale(ends: tuple[float, float]) -> None:
    values = log_spaced(*ends)
    edges = np.geomspace(*ends, 2 * FRACTIONS + 1)
    np.testing.assert_allclose(values, edges[1::2], rtol=1e-13)
    assert (np.diff(values) >= 0).all()


def test_a_retry_visits_every_fraction() -> None:
    seen, value = set(), 0
    for _ in range(FRACTIONS):
        seen.add(value)
        value = (value * MULTIPLIER + INCREMENT) % FRACTIONS
    assert len(seen) == FRACTIONS and value == 0


@quick
@given(st.lists(st.tuples(fractions, sides, sides), min_size=1, max_size=8))
def test_a_box_does_not_depend_on_its_batch(images: list[Any]) -> None:
    rows, heights, widths = map(np.array, zip(*images, strict=True))
    step = ResizedCrop()
    together = step.boxes(rows, heights, widths)
    assert together.tolist() == [one_crop(row, height, width, step) for row, height, width in images]


# The distribution


def distance(ours: Any, theirs: Any) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples in units of its scale: above 2.3 with probability 5e-5."""
    values = np.arange(max(ours.max(), theirs.max()) + 1)
    shares = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (ours, theirs)]
    return float(np.abs(shares[0] - shares[1]).max() * math.sqrt(len(ours) * len(theirs) / (len(ours) + len(theirs))))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (400, 600), (640, 480), (100, 400)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """Compare sides, places and areas; at 1:4 a tenth of the crops is the central one, after ten draws that did not fit."""
    torch.manual_seed(height)
    image, transform = [torch.zeros(1, height, width)], v2.RandomResizedCrop(8)
    drawn = [transform.make_params(image) for _ in range(4000)]
    theirs = np.array([[box[key] for key in ("top", "left", "height", "width")] for box in drawn])
    rows = ViewPlan(["resized-crop"], 1, 2, 40_000).parameters(0).astype(np.int64)
    ours = ResizedCrop().boxes(rows, np.full(40_000, height), np.full(40_000, width))
    for column in range(4):
        assert distance(ours[:, column], theirs[:, column]) < 2.3
    assert distance(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]) < 2.3
    assert distance(ours[:, 2] * 1000 // ours[:, 3], theirs[:, 2] * 1000 // theirs[:, 3]) < 2.3


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 120)])
def test_erased_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    torch.manual_seed(height)
    image, transform = [torch.zeros(1, height, width)], v2.RandomErasing(1.0)
    drawn = [transform.make_params(image) for _ in range(4000)]
    theirs = np.array([[box[key] for key in "ijhw"] for box in drawn if box["v"] is not None])
    rows = ViewPlan([{"erase": {"probability": 1.0}}], 1, 2, 40_000).parameters(0).astype(np.int64)
    ours = Erase(probability=1.0).boxes(rows, height, width)
    fits = ours[:, 2] > 0
    assert abs(fits.mean() - len(theirs) / 4000) < 5 * math.sqrt(0.25 / 4000)
    for column in range(4):
        assert distance(ours[fits, column], theirs[:, column]) < 2.3


def test_what_never_fits_is_an_empty_box() -> None:
    rows = ViewPlan([{"erase": {"probability": 1.0}}], 1, 0, 200).parameters(0).astype(np.int64)
    step = Erase(probability=1.0, scale=(1.0, 1.0))
    assert (step.boxes(rows, 9, 9)[:, 2:] == 0).all()
    limits = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    nine = np.full(200, 9)
    assert (draw_boxes(rows[:, 1:], nine, nine, smallest=1, margin=0, **limits)[:, 2:] == 9).all()
    assert (draw_boxes(rows[:, 1:], nine, nine, smallest=1, margin=1, **limits)[:, 2:] == 0).all()
