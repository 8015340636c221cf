"""Centre crops, for images that are evaluated."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from prepkd.views.framing import Framing
from prepkd.views.picture import Image

MAX_PIXELS = 2**26  # pixels: an image that would be resized to more is a narrow strip, of which the middle is enough
STRIP = 8  # length of the strip that is kept, in widths


def centre_crop(images: Tensor | Sequence[Image], size: int) -> Tensor:
    """Resize the shorter side to 8/7 of `size` and cut out the middle; uint8 (B, C, size, size).

    Images are a batch, or a list of uint8 (C, h, w) or decoded images; those of `size` by `size` stay unchanged. Resizing is
    bilinear and antialiased; 256 for 224 is how ImageNet is evaluated (Krizhevsky et al. 2012).
    """
    if isinstance(images, Tensor):
        return _centre(images, size)
    return torch.stack([_centre(one if isinstance(one, Tensor) else one.whole(), size) for one in images])


def framed(images: Tensor, framing: Framing) -> Tensor:
    """The middle of images (..., h, w) of one size, uint8 or float, resized: (..., height, width) of the framing.

    Images of that size stay unchanged. Equal to `centre_crop` under `Framing.centred`.
    """
    height, width = images.shape[-2:]
    if (height, width) == framing.size:
        return images
    new_height, new_width = framing.resized(height, width)
    if new_height * new_width > MAX_PIXELS:
        long = STRIP * -(-max(framing.size) // min(framing.size))
        height, width = min(height, long * width), min(width, long * height)
        images = torch.as_tensor(F.center_crop_image(images, [height, width]))
        new_height, new_width = framing.resized(height, width)
    return torch.as_tensor(F.center_crop_image(F.resize_image(images, [new_height, new_width]), list(framing.size)))


def _centre(images: Tensor, size: int) -> Tensor:
    return framed(images, Framing.centred(size))
