"""Pixels from integers: a batch of views, rendered on the images' device."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from prepkd.views.erase import erase
from prepkd.views.recipe import Recipe, takes_any_size
from prepkd.views.steps import Augmentation, Crop

if TYPE_CHECKING:
    from prepkd.views.resized_crop import Image


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


# These are imported late: they need torchvision's transforms, which crop and flip do not wait for.
def resized_crop(images: "Tensor | Sequence[Image]", parameters: Tensor, step: Augmentation) -> Tensor:
    """See `prepkd.views.resized_crop`."""
    from prepkd.views import resized_crop

    return resized_crop.resized_crop(images, parameters, step)


def randaugment(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """See `prepkd.views.autoaugment`."""
    from prepkd.views import autoaugment

    return autoaugment.randaugment(images, parameters, step)


def trivial_augment(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """See `prepkd.views.autoaugment`."""
    from prepkd.views import autoaugment

    return autoaugment.trivial_augment(images, parameters, step)


RENDERERS: dict[str, Callable[[Tensor, Tensor, Augmentation], Tensor]] = {
    "crop": crop,
    "flip": flip,
    "resized-crop": resized_crop,
    "erase": erase,
    "randaugment": randaugment,
    "trivial-augment": trivial_augment,
}


def render(recipe: Recipe, images: "Tensor | Sequence[Image]", parameters: Tensor) -> Tensor:
    """Apply a recipe's steps in order; uint8 (B, C, H, W) and integers (B, p) to float32 in [0, 1].

    A list of images of any sizes, uint8 (C, h, w) or decoded, raises ValueError unless the recipe starts with a resized crop to
    a size.
    """
    if not isinstance(images, Tensor) and takes_any_size(recipe) is None:
        raise ValueError("images of differing sizes need a recipe that starts with resized-crop with a size")
    pixels = cast(Tensor, images)  # the first step makes a batch of a list
    start = 0
    for name, step in recipe:
        stop = start + len(step.ranges)
        pixels = RENDERERS[name](pixels, parameters[:, start:stop], step)
        start = stop
    return pixels.float() / 255
