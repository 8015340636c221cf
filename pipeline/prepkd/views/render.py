"""Pixels from integers: a batch of views, rendered on the images' device."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from prepkd.views.augmentation import Augmentation
from prepkd.views.picture import Image
from prepkd.views.recipe import Recipe, takes_any_size


def render(recipe: Recipe, images: Tensor | Sequence[Image], parameters: Tensor) -> Tensor:
    """Apply a recipe's steps in order; uint8 (B, C, H, W) and integers (B, p) to float32 in [0, 1].

    Images may be a list of any sizes, uint8 (C, h, w) or decoded, if the recipe starts with a resized crop to a size; else a
    list raises ValueError. Mixing is left to `ViewPlan.render`.
    """
    if not isinstance(images, Tensor) and takes_any_size(recipe) is None:
        raise ValueError("images of differing sizes need a recipe that starts with resized-crop with a size")
    pixels = cast(Tensor, images)  # the first step turns a list into a batch
    start = 0
    for _, step in recipe:
        assert isinstance(step, Augmentation)
        stop = start + len(step.ranges)
        pixels = step.render(pixels, parameters[:, start:stop])
        start = stop
    return unit_range(pixels)


def unit_range(pixels: Tensor) -> Tensor:
    """Byte values as float32 in [0, 1], the same on every device: CUDA multiplies by the rounded reciprocal of a plain number."""
    return pixels.float() / torch.full((), 255.0, device=pixels.device)
