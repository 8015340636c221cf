"""Pixels from integers: a batch of views, rendered on the images' device."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from prepkd.views.recipe import Recipe
from prepkd.views.steps import Augmentation, Crop


def crop(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """Cut (top, left) windows out of the images padded with black; uint8 (B, C, H, W), integers (B, 2)."""
    assert isinstance(step, Crop)
    height, width = images.shape[-2:]
    padded = F.pad(images, [step.padding] * 4)
    # All windows as one strided view without a copy: (B, C, 2 pad + 1, 2 pad + 1, H, W); the index copies only B of them.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(images), device=images.device)
    return windows[rows, :, parameters[:, 0].long(), parameters[:, 1].long()]


def flip(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """Mirror the images whose integer is 1; uint8 (B, C, H, W), integers (B, 1)."""
    return torch.where(parameters[:, 0].bool().view(-1, 1, 1, 1), images.flip(-1), images)


RENDERERS: dict[str, Callable[[Tensor, Tensor, Augmentation], Tensor]] = {"crop": crop, "flip": flip}


def render(recipe: Recipe, images: Tensor, parameters: Tensor) -> Tensor:
    """Apply a recipe's steps in order; uint8 (B, C, H, W) and integers (B, p) to float32 in [0, 1]."""
    start = 0
    for name, step in recipe:
        stop = start + len(step.ranges)
        images = RENDERERS[name](images, parameters[:, start:stop], step)
        start = stop
    return images.float() / 255
