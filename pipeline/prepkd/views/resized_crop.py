"""Resized crops: boxes of images of any size, resized to one size; and the centre, for pictures that are held out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from prepkd.views.boxes import draw_boxes
from prepkd.views.steps import Augmentation, ResizedCrop


class Picture(Protocol):
    """A decoded image of any size, whose pixels are copied only as far as they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w)."""

    def box(self, top: int, left: int, height: int, width: int) -> Tensor:
        """A box of it, uint8 (3, height, width)."""

    def whole(self) -> Tensor:
        """All of it, uint8 (3, h, w)."""


Image = Tensor | Picture


def crop_boxes(
    fractions: NDArray[np.int64], heights: NDArray[np.int64], widths: NDArray[np.int64], step: ResizedCrop
) -> NDArray[np.int64]:
    """Boxes (B, 4), top, left, height, width, inside images (B,); where none of ten fits, torchvision's central one."""
    boxes = draw_boxes(fractions, heights, widths, scale=step.scale, ratio=step.ratio, smallest=1, margin=0)
    for i in np.flatnonzero(boxes[:, 2] == 0):
        boxes[i] = _central(int(heights[i]), int(widths[i]), *step.ratio)
    return boxes


def _central(height: int, width: int, low: float, high: float) -> tuple[int, int, int, int]:
    """As much of the image's centre as the aspect ratio allows."""
    tall = min(height, max(1, round(width / low)))
    wide = min(width, max(1, round(height * high)))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def resized_crop(images: Tensor | Sequence[Image], parameters: Tensor, step: Augmentation) -> Tensor:
    """Cut a box out of each image and resize it, bilinear and antialiased; uint8 (B, C, H, W), integers (B, 4).

    The images may be a list of any sizes, uint8 (C, h, w) or decoded, where the step has a size.
    """
    assert isinstance(step, ResizedCrop)
    size = [step.size, step.size] if step.size else list(images[0].shape[-2:])
    if isinstance(images, Tensor) and not len(images):
        return images.new_empty((0, images.shape[1], *size))
    each = images.unbind() if isinstance(images, Tensor) else images
    heights, widths = np.array([image.shape[-2:] for image in each]).T
    boxes = crop_boxes(parameters.cpu().numpy().astype(np.int64), heights, widths, step)
    cut = [_box(image, *box) for image, box in zip(each, boxes.tolist(), strict=True)]
    return torch.stack([torch.as_tensor(F.resize_image(one, size)) for one in cut]).to(parameters.device)


def _box(image: Image, top: int, left: int, height: int, width: int) -> Tensor:
    if isinstance(image, Tensor):
        return image[:, top : top + height, left : left + width]
    return image.box(top, left, height, width)


def centre(images: Tensor | Sequence[Image], size: int) -> Tensor:
    """The centre of images, uint8 (B, C, size, size): the shorter side resized to 8/7 of `size`, the middle cut out.

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
