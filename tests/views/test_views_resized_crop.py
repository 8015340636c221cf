"""Resized crops and centres: pixels equal to torchvision's, from images of any size, in any batch."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from prepkd.views import ViewPlan, parse_recipe, takes_any_size
from prepkd.views.centre_crop import centre_crop
from prepkd.views.resized_crop import ResizedCrop
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

SIZES = [(3, 32, 32), (1, 8, 8), (3, 64, 64), (1, 9, 13), (3, 50, 20), (3, 300, 401), (3, 1, 1)]


def pictures(count: int, size: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(256, (count, *size), generator=generator, dtype=torch.uint8)


def mixed() -> list[Tensor]:
    return [
        pictures(1, (3, height, width))[0] for height, width in [(30, 40), (224, 224), (100, 71), (8, 9), (301, 200)]
    ]


def recipe(size: int | None) -> list[Any]:
    return [{"resized-crop": {"size": size}}]


def rows(plan: ViewPlan, view: int = 0) -> Tensor:
    return torch.from_numpy(plan.parameters(view))


def theirs(image: Tensor, row: Tensor, size: list[int]) -> Tensor:
    height, width = image.shape[-2:]
    box = ResizedCrop().boxes(row.numpy().astype(np.int64)[None], np.array([height]), np.array([width]))[0].tolist()
    return torch.as_tensor(F.resized_crop(image, *box, size, antialias=True)).float() / 255


@pytest.mark.parametrize("side", [None, 1, 24, 32, 65])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_torchvisions(size: tuple[int, int, int], side: int | None) -> None:
    images = pictures(12, size)
    plan = ViewPlan(recipe(side), 2, 1, 12)
    for view in range(2):
        parameters = rows(plan, view)
        pixels = plan.render(images, parameters)
        assert pixels.dtype == torch.float32
        for i in range(12):
            assert torch.equal(pixels[i], theirs(images[i], parameters[i], [side, side] if side else list(size[1:])))


def test_pixels_are_those_of_torchvisions_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    """RandomResizedCrop as a whole gives these pixels if our box replaces its random box."""
    image = pictures(1, (3, 61, 80))[0]
    plan = ViewPlan(recipe(32), 1, 4, 20)
    for i, row in enumerate(rows(plan)):
        box = ResizedCrop().boxes(row.numpy().astype(np.int64)[None], np.array([61]), np.array([80]))[0].tolist()
        transform = v2.RandomResizedCrop(32, antialias=True)
        drawn = dict(zip(("top", "left", "height", "width"), box, strict=True))
        monkeypatch.setattr(transform, "make_params", lambda _, drawn=drawn: drawn)
        assert torch.equal(plan.render(image[None], rows(plan)[i : i + 1])[0], transform(image).float() / 255)


def test_a_list_of_any_sizes_is_its_images_one_by_one() -> None:
    images = mixed()
    plan = ViewPlan([*recipe(48), "flip", "erase"], 1, 3, len(images))
    parameters = rows(plan)
    pixels = plan.render(images, parameters)
    assert pixels.shape == (len(images), 3, 48, 48)
    for i, image in enumerate(images):
        assert torch.equal(plan.render(image[None], parameters[i : i + 1])[0], pixels[i])


def test_a_batch_is_its_images_in_any_order() -> None:
    images = pictures(30, (3, 40, 30))
    plan = ViewPlan(recipe(32), 1, 3, 30)
    whole = plan.render(images, rows(plan))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plan.render(images[order], rows(plan)[order]), whole[order])
    assert torch.equal(plan.render(list(images), rows(plan)), whole)


def test_the_whole_image_at_its_own_size_is_left_alone() -> None:
    images = pictures(5, (3, 20, 20))
    whole: list[Any] = [{"resized-crop": {"scale": [1, 1], "ratio": [1, 1]}}]
    plan = ViewPlan(whole, 1, 0, 5)
    assert torch.equal(plan.render(images, rows(plan)), images.float() / 255)


def test_the_empty_batch() -> None:
    plan = ViewPlan(recipe(24), 1, 0, 5)
    assert plan.render(pictures(0, (3, 7, 5)), torch.zeros(0, 4, dtype=torch.int16)).shape == (0, 3, 24, 24)


@pytest.mark.parametrize(
    ("steps", "side"),
    [
        ([{"resized-crop": {"size": 224}}, "flip"], 224),
        (["resized-crop", "flip"], None),
        (["flip", {"resized-crop": {"size": 224}}], None),
        (["crop", "flip"], None),
        ([], None),
    ],
)
def test_which_recipes_take_any_size(steps: list[Any], side: int | None) -> None:
    assert takes_any_size(parse_recipe(steps)) == side
    plan = ViewPlan(steps, 1, 0, 5)
    if side is None:
        with pytest.raises(ValueError, match="images of differing sizes need a recipe that starts with resized-crop"):
            plan.render(mixed(), rows(plan))
    else:
        assert plan.render(mixed(), rows(plan)).shape == (5, 3, side, side)


# Centres


@pytest.mark.parametrize("size", [8, 32, 64, 224])
def test_centres_are_torchvisions(size: int) -> None:
    shorter = {8: 9, 32: 37, 64: 73, 224: 256}[size]
    transform = v2.Compose([v2.Resize(shorter, antialias=True), v2.CenterCrop(size)])
    images = mixed()
    wanted = [image if image.shape[-2:] == (size, size) else transform(image) for image in images]
    assert torch.equal(centre_crop(images, size), torch.stack(wanted))
    batch = pictures(7, (1, 45, 30))
    assert torch.equal(centre_crop(batch, size), torch.stack([transform(image) for image in batch]))


def test_a_picture_of_the_size_stays_as_it_is() -> None:
    images = pictures(4, (3, 32, 32))
    assert torch.equal(centre_crop(images, 32), images) and torch.equal(centre_crop(list(images), 32), images)
    assert centre_crop(pictures(4, (3, 37, 37)), 32).shape == (4, 3, 32, 32)


# Imports


def imported(*parts: str) -> list[set[str]]:
    """Return the modules imported after each part of a program."""
    code = "import sys\n" + "".join(f"{part}\nprint(*sys.modules)\n" for part in parts)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_a_recipe_needs_no_torchvision_and_neither_does_rendering_crops_and_flips() -> None:
    steps = "['crop', {'resized-crop': {'size': 8}}, 'erase', 'randaugment', 'trivial-augment', 'mixup']"
    render = "import torch; plan = ViewPlan({}, 1, 0, 2)\n"
    render += "plan.render(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.from_numpy(plan.parameters(0)))"
    recipe, crops, resized = imported(
        f"from prepkd.views import ViewPlan\nViewPlan({steps}, 2, 0, 5).parameters(1)",
        render.format("['crop', 'flip', 'erase']"),
        render.format("['resized-crop']"),
    )
    assert not {"torchvision", "scipy"} & recipe
    assert "torchvision" not in crops
    assert "torchvision" in resized
