"""Mixed views: the row's integers are the partner and the weight, and the pixels are those of torchvision's MixUp and CutMix."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.data.samples.samples import Samples
from prepkd.views import ViewPlan, parse_recipe
from prepkd.views.cutmix import PLACES, CutMix
from prepkd.views.mix import QUANTILES, WEIGHT_STEPS, beta_quantiles
from prepkd.views.mixup import Mixup
from torch import Tensor
from torchvision.transforms import v2

CLASSES, COUNT = 5, 40
OWN: list[Any] = [{"crop": {"padding": 1}}, "flip"]
MIXES: dict[str, Any] = {"mixup": {"mixup": {"alpha": 0.4}}, "cutmix": {"cutmix": {"probability": 0.7}}}


def samples(height: int = 8, width: int = 6) -> Samples:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (COUNT, 3, height, width), generator=generator, dtype=torch.uint8)
    return Samples(images, torch.arange(COUNT) % CLASSES)


def plan_of(mix: str, views: int = 4) -> ViewPlan:
    return ViewPlan([*OWN, MIXES[mix]], views, 9, COUNT)


def torchvisions(name: str, pair: Tensor, labels: Tensor, row: list[int]) -> tuple[Tensor, Tensor]:
    """Apply torchvision's transform to a batch of the image and its partner, with this row's weight and box."""
    transform = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](num_classes=CLASSES)
    step = parse_recipe([MIXES[name]])[0][1]
    assert isinstance(step, Mixup | CutMix)
    lam = float(beta_quantiles(step.alpha, step.probability)[row[0]])
    height, width = pair.shape[-2:]
    parameters: dict[str, Any] = {"lam": lam}
    if name == "cutmix":
        # As in torchvision's make_params, without its random numbers.
        y, x = row[1] * height // PLACES, row[2] * width // PLACES
        half = 0.5 * math.sqrt(1 - lam)
        up, left = max(0, y - int(half * height)), max(0, x - int(half * width))
        down, right = min(height, y + int(half * height)), min(width, x + int(half * width))
        kept = float(1 - (right - left) * (down - up) / (width * height))
        parameters = {"box": (left, up, right, down), "lam_adjusted": kept}
    transform.make_params = lambda flat: parameters | {"labels": labels, "batch_size": 2}
    mixed, shares = transform(pair, labels)
    return mixed[0], shares[0]


@pytest.mark.parametrize("size", [(8, 6), (9, 9), (5, 7)], ids=str)
@pytest.mark.parametrize("name", MIXES)
def test_pixels_and_labels_are_torchvisions(name: str, size: tuple[int, int]) -> None:
    dataset, plan, plain = samples(*size), plan_of(name), ViewPlan(OWN, 1, 0, COUNT)
    moved = 0
    for view in range(plan.views):
        chosen, rows = dataset.view_rows(plan, view, slice(None))
        pixels, labels = dataset.pixels(plan, chosen, rows), dataset.targets(plan, chosen, rows, CLASSES)
        assert pixels.dtype == labels.dtype == torch.float32 and labels.shape == (COUNT, CLASSES)
        for i, row in enumerate(rows.tolist()):
            own, partner, theirs, mixing = row[:3], row[3], row[4:7], row[7:]
            pair = plain.render(dataset.images[[i, partner]], torch.tensor([own, theirs]))
            expected, shares = torchvisions(name, pair, dataset.labels[[i, partner]], mixing)
            assert torch.equal(pixels[i], expected)
            torch.testing.assert_close(labels[i], shares, rtol=0, atol=2**-22)
            moved += not torch.equal(pixels[i], pair[0])
    assert moved > COUNT


@pytest.mark.parametrize("name", MIXES)
def test_a_mixed_picture_depends_on_its_row_alone(name: str) -> None:
    dataset, plan = samples(), plan_of(name)
    chosen, rows = dataset.view_rows(plan, 2, slice(None))
    whole = dataset.pixels(plan, chosen, rows)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dataset.pixels(plan, chosen[order], rows[order]), whole[order])
    for i in range(0, COUNT, 7):
        assert torch.equal(dataset.pixels(plan, chosen[i : i + 1], rows[i : i + 1])[0], whole[i])


def test_the_row_names_the_partner_and_its_own_view() -> None:
    plan = plan_of("mixup")
    assert plan.ranges == (3, 3, 2, COUNT, 3, 3, 2, QUANTILES)
    rows = plan.parameters(0)
    partners = plan.partners(torch.from_numpy(rows))
    assert partners is not None and partners.tolist() == rows[:, 3].tolist()
    assert len(set(partners.tolist())) > COUNT / 2  # drawn anew for each sample
    # No other plan has these integers for the sample: the row is wider, so its words are elsewhere in the stream.
    assert np.array_equal(plan.parameters(0, np.array([7, 3])), rows[[7, 3]])
    assert ViewPlan.from_description(plan.describe()).fingerprint == plan.fingerprint


@pytest.mark.parametrize(("alpha", "probability"), [(0.2, 1.0), (1.0, 0.5), (8.0, 1.0)])
def test_weights_have_the_beta_distribution(alpha: float, probability: float) -> None:
    """Mixed samples have mean 1/2 and variance 1 / (4 (2 alpha + 1)); the other samples keep their own image."""
    weights = beta_quantiles(alpha, probability).astype(np.float64)
    assert np.array_equal(weights * WEIGHT_STEPS, np.rint(weights * WEIGHT_STEPS))
    mixed = weights[: round(probability * QUANTILES)]
    assert (weights[len(mixed) :] == 1).all() and len(weights) == QUANTILES
    assert mixed.mean() == pytest.approx(0.5, abs=1e-4)
    # The midpoints of 1,024 quantiles miss a little of the tails.
    assert mixed.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.01)


def test_golden_values() -> None:
    """The values equal those in docs/reference/views.md."""
    assert (beta_quantiles(0.2, 1.0)[[0, 300, 700, 1023]] * WEIGHT_STEPS).tolist() == [0.0, 3411.0, 60680.0, 65536.0]
    rows = ViewPlan(["flip", {"cutmix": {}}], 8, 0, 1000).parameters(1, np.array([0, 1, 999]))
    assert rows.tolist() == [
        [0, 90, 0, 441, 16248, 7165],
        [0, 514, 0, 62, 60931, 55283],
        [1, 973, 0, 476, 24735, 47157],
    ]


@pytest.mark.parametrize(
    ("recipe", "views", "message"),
    [
        ([{"mixup": {}}, "flip"], 2, "has mixup before its last step; expected one step that mixes, at the end"),
        (
            [{"mixup": {}}, {"cutmix": {}}],
            2,
            "has mixup before its last step; expected one step that mixes, at the end",
        ),
        ([{"mixup": {"alpha": 0}}], 2, "step mixup: alpha is 0; expected > 0"),
        ([{"cutmix": {"probability": 2}}], 2, "step cutmix: probability is 2; expected <= 1"),
        ([{"mixup": {}}], "all", "views is 'all', and the recipe mixes samples"),
    ],
)
def test_recipes_that_cannot_be(recipe: list[Any], views: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewPlan(recipe, views, 0, COUNT)


def test_without_mixing_the_label_keeps_all_of_its_share() -> None:
    dataset, plan = samples(), ViewPlan(OWN, 1, 0, COUNT)
    chosen, rows = dataset.view_rows(plan, 0, slice(0, 5))
    assert torch.equal(plan.shares(rows, (8, 6)), torch.ones(5)) and plan.partners(rows) is None
    assert torch.equal(dataset.targets(plan, chosen, rows, CLASSES), dataset.labels[:5])


def test_partners_must_be_given() -> None:
    dataset, plan = samples(), plan_of("mixup")
    with pytest.raises(ValueError, match="expected the partners' images"):
        plan.render(dataset.images, torch.from_numpy(plan.parameters(0)))
