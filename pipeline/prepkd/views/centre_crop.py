"""Centre crops, for images that are evaluated."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from prepkd.views.picture import Image


def centre_crop(images: Tensor | Sequence[Image], size: int) -> Tensor:
    """Resize the shorter side to 8/7 of `size` and cut out the middle; uint8 (B, C, size, size).

    Images are a batch, or a list of uint8 (C, h, w) or decoded ones; one that is `size` by `size` already stays as it is. 256
    for 224 is how ImageNet is evaluated (Krizhevsky et al. 2012); resized bilinearly and antialiased.
    """
    if isinstance(images, Tensor):
        return _centre(images, size)
    return torch.stack([_centre(one if isinstance(one, Tensor) else one.whole(), size) for one in images])


def _centre(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return torch.as_tensor(F.center_crop_image(F.resize_image(images, [round(size * 8 / 7)]), [size, size]))
