"""Rendering: the pixels of a view are torchvision's functional crop and flip, to the last bit."""

from typing import Any

import pytest
import torch
from prepkd.views import ViewPlan
from torch import Tensor
from torchvision.transforms.v2 import functional as F

SIZES = [(1, 8, 8), (3, 32, 32), (1, 9, 13), (3, 7, 5), (4, 1, 6)]
CIFAR: list[Any] = [{"crop": {"padding": 4}}, "flip"]


def pictures(count: int, size: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(256, (count, *size), generator=generator, dtype=torch.uint8)


def by_torchvision(recipe: list[Any], image: Tensor, row: list[int]) -> Tensor:
    """Render one image by one row of integers with torchvision, step by step; uint8."""
    height, width = image.shape[-2:]
    for step in recipe:
        if step == "flip":
            if row.pop(0):
                image = F.horizontal_flip(image)
        else:
            top, left = row.pop(0), row.pop(0)
            image = F.crop(F.pad(image, [step["crop"]["padding"]] * 4, fill=0), top, left, height, width)
    assert not row
    return image


def check(recipe: list[Any], images: Tensor, plan: ViewPlan, view: int) -> None:
    rows = torch.from_numpy(plan.parameters(view))
    pixels = plan.render(images, rows)
    theirs = torch.stack([by_torchvision(recipe, x, row) for x, row in zip(images, rows.tolist(), strict=True)])
    assert pixels.dtype == torch.float32 and pixels.shape == images.shape
    assert torch.equal((pixels * 255).round().to(torch.uint8), theirs)
    assert torch.equal(pixels, theirs.float() / 255)
    # torchvision multiplies by the rounded 1 / 255, which may differ in the last of 24 bits
    scaled = F.to_dtype(theirs, torch.float32, scale=True)
    torch.testing.assert_close(pixels, scaled, rtol=2**-23, atol=0)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_all_162_views_are_torchvisions(size: tuple[int, int, int]) -> None:
    images = pictures(3, size)
    plan = ViewPlan(CIFAR, "all", 0, len(images))
    assert plan.views == 162
    for view in range(plan.views):
        check(CIFAR, images, plan, view)


@pytest.mark.parametrize(
    "recipe",
    [
        ["flip"],
        [{"crop": {"padding": 1}}],
        ["flip", {"crop": {"padding": 2}}],
        [{"crop": {"padding": 2}}, "flip", {"crop": {"padding": 1}}],
        [{"crop": {"padding": 20}}],
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 7, 5)], ids=str)
def test_other_recipes_are_torchvisions(recipe: list[Any], size: tuple[int, int, int]) -> None:
    images = pictures(40, size)
    plan = ViewPlan(recipe, 3, 1, len(images))
    for view in range(plan.views):
        check(recipe, images, plan, view)


def test_known_pixels() -> None:
    image = torch.tensor([[[[0, 51], [102, 255]]]], dtype=torch.uint8)
    plan = ViewPlan([{"crop": {"padding": 1}}, "flip"], 1, 0, 1)
    rows = {
        (1, 1, 0): [[0.0, 0.2], [0.4, 1.0]],
        (1, 1, 1): [[0.2, 0.0], [1.0, 0.4]],
        (0, 0, 0): [[0.0, 0.0], [0.0, 0.0]],  # the padding, and the corner pixel of value 0
        (2, 2, 0): [[1.0, 0.0], [0.0, 0.0]],
        (2, 1, 0): [[0.4, 1.0], [0.0, 0.0]],
        (1, 0, 1): [[0.0, 0.0], [0.4, 0.0]],
    }
    for row, pixels in rows.items():
        torch.testing.assert_close(plan.render(image, torch.tensor([row])), torch.tensor([[pixels]]))


def test_a_batch_is_its_images_one_by_one() -> None:
    images = pictures(20, (3, 7, 5))
    plan = ViewPlan(CIFAR, 1, 2, 20)
    rows = torch.from_numpy(plan.parameters(0))
    whole = plan.render(images, rows)
    for i in range(20):
        assert torch.equal(plan.render(images[i : i + 1], rows[i : i + 1])[0], whole[i])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plan.render(images[order], rows[order]), whole[order])


def test_the_images_are_left_as_they_are() -> None:
    for recipe in (CIFAR, ["flip"], []):
        images = pictures(4, (3, 7, 5))
        plan = ViewPlan(recipe, 1, 2, 4)
        plan.render(images, torch.from_numpy(plan.parameters(0))).zero_()
        assert torch.equal(images, pictures(4, (3, 7, 5)))


def test_the_empty_batch() -> None:
    plan = ViewPlan(CIFAR, 1, 0, 5)
    assert plan.render(pictures(0, (3, 7, 5)), torch.zeros(0, 3, dtype=torch.int8)).shape == (0, 3, 7, 5)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int64])
def test_the_type_of_the_integers_does_not_matter(dtype: torch.dtype) -> None:
    images = pictures(8, (1, 9, 13))
    plan = ViewPlan(CIFAR, 1, 4, 8)
    rows = torch.from_numpy(plan.parameters(0))
    assert torch.equal(plan.render(images, rows.to(dtype)), plan.render(images, rows))
