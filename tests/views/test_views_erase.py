"""Erased boxes: pixels equal to torchvision's, and their frequency."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.views import ViewPlan
from prepkd.views.erase import Erase
from torch import Tensor
from torchvision.transforms.v2 import functional as F

SIZES = [(1, 8, 8), (3, 32, 32), (1, 9, 13), (3, 7, 5), (4, 1, 6), (3, 100, 64)]


def pictures(count: int, size: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(256, (count, *size), generator=generator, dtype=torch.uint8)


def rendered(settings: dict[str, Any], images: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    plan = ViewPlan([{"erase": settings}], 1, seed, len(images))
    rows = torch.from_numpy(plan.parameters(0))
    return (plan.render(images, rows) * 255).round().to(torch.uint8), rows


@pytest.mark.parametrize("settings", [{}, {"value": 255}, {"probability": 1.0, "scale": [0.5, 1.0]}], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_torchvisions(size: tuple[int, int, int], settings: dict[str, Any]) -> None:
    images, step = pictures(60, size), Erase(**settings)
    pixels, rows = rendered(settings, images)
    boxes = step.boxes(rows.numpy().astype(np.int64), *size[1:]).tolist()
    for image, got, box in zip(images, pixels, boxes, strict=True):
        assert torch.equal(
            got, torch.as_tensor(F.erase(image, *box, torch.tensor([[[step.value]]], dtype=torch.uint8)))
        )


def test_boxes_are_erased_with_the_given_probability() -> None:
    white = torch.full((4000, 1, 16, 16), 255, dtype=torch.uint8)
    for probability in (0.0, 0.25, 1.0):
        erased = (rendered({"probability": probability}, white)[0] == 0).flatten(1).any(dim=1).double().mean()
        assert abs(erased - probability) <= 5 * math.sqrt(probability * (1 - probability) / 4000)


def test_a_batch_is_its_images_one_by_one_and_they_stay_as_they_are() -> None:
    images = pictures(40, (3, 20, 24))
    plan = ViewPlan(["erase"], 1, 1, 40)
    rows = torch.from_numpy(plan.parameters(0))
    whole = plan.render(images, rows)
    assert torch.equal(images, pictures(40, (3, 20, 24))) and not torch.equal(whole, images.float() / 255)
    for i in range(40):
        assert torch.equal(plan.render(images[i : i + 1], rows[i : i + 1])[0], whole[i])
    assert plan.render(images[:0], rows[:0]).shape == (0, 3, 20, 24)


def test_known_pixels() -> None:
    """The box is a square of a quarter of the area in the lower right corner."""
    image = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    plan = ViewPlan([{"erase": {"probability": 1, "scale": [0.25, 0.25], "ratio": [1, 1], "value": 51}}], 1, 0, 1)
    wanted = torch.ones(1, 1, 4, 4)
    wanted[..., 2:, 2:] = 0.2
    torch.testing.assert_close(plan.render(image, torch.tensor([[0, 0, 0, 32767, 32767]])), wanted)
