"""Samples of arrays and of encoded files: equal pixels at any size, and ImageNet's centre crops for evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from encoded_files import RECIPE, SIZES, encoded, pictures
from prepkd.data.prepared.file import Split
from prepkd.data.samples.samples import Samples
from prepkd.errors import InputError
from prepkd.views import ViewPlan, parse_recipe
from torchvision.transforms import v2

CPU = torch.device("cpu")


@pytest.mark.parametrize("last", [[], [{"mixup": {}}], [{"cutmix": {}}]], ids=str)
def test_files_and_arrays_give_equal_pictures_and_labels(last: list[Any]) -> None:
    arrays = pictures([(30, 40)] * 6)
    recipe = parse_recipe([*RECIPE, *last])
    plan = ViewPlan(recipe, 3, 0, 6)
    ours = Samples.of(encoded(arrays), CPU, recipe)
    theirs = Samples.of(Split(np.stack(arrays), np.arange(6), "f" * 64), CPU, recipe)
    for view in range(3):
        asked = ours.view_rows(plan, view, slice(1, 6))
        assert ours.pixels(plan, *asked).shape == (5, 3, 24, 24)
        assert torch.equal(ours.pixels(plan, *asked), theirs.pixels(plan, *asked))
        assert torch.equal(ours.targets(plan, *asked, 6), theirs.targets(plan, *asked, 6))
    assert torch.equal(ours.evaluation_pixels(slice(2, 5)), theirs.evaluation_pixels(slice(2, 5)))
    assert ours.channels == theirs.channels == 3 and len(ours) == len(theirs) == 6


def test_images_of_any_size_are_torchvisions_one_by_one() -> None:
    arrays = pictures(SIZES)
    recipe = parse_recipe(RECIPE)
    samples, plan = Samples.of(encoded(arrays), CPU, recipe), ViewPlan(recipe, 2, 0, len(SIZES))
    chosen, rows = samples.view_rows(plan, 1, slice(None))
    pixels, plain = samples.pixels(plan, chosen, rows), samples.evaluation_pixels(slice(None))
    evaluated = v2.Compose([v2.Resize(27, antialias=True), v2.CenterCrop(24)])
    for i, array in enumerate(arrays):
        image = torch.from_numpy(array).permute(2, 0, 1)
        assert torch.equal(plan.render([image], rows[i : i + 1])[0], pixels[i])
        expected = image if array.shape[:2] == (24, 24) else evaluated(image)
        assert torch.equal(plain[i], expected.float() / 255)


@pytest.mark.parametrize("recipe", [[], ["flip"], ["resized-crop"], ["flip", *RECIPE]], ids=str)
def test_files_need_a_recipe_that_makes_them_one_size(recipe: list[Any]) -> None:
    with pytest.raises(InputError, match="expected `augment` to start with a resized crop of one size"):
        Samples.of(encoded(pictures(SIZES)), CPU, parse_recipe(recipe))


def test_arrays_are_held_out_at_the_side_of_the_views() -> None:
    """Evaluation uses resized centre crops of 24 pixels for views of 24, and unchanged images for views of their own size."""
    images = np.stack(pictures([(32, 32)] * 3))
    split = Split(images, np.arange(3), "f" * 64)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    evaluated = v2.Compose([v2.Resize(27, antialias=True), v2.CenterCrop(24)])
    assert torch.equal(
        Samples.of(split, CPU, parse_recipe(RECIPE)).evaluation_pixels(slice(None)), evaluated(tensors).float() / 255
    )
    for recipe in ([], ["crop"], ["resized-crop"], [{"resized-crop": {"size": 32}}]):
        assert torch.equal(
            Samples.of(split, CPU, parse_recipe(recipe)).evaluation_pixels(slice(None)), tensors.float() / 255
        )
