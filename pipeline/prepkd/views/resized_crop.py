"""Resized crops: boxes of images of any size, resized to one size."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from prepkd.views.augmentation import Augmentation
from prepkd.views.boxes import FRACTIONS, Ratio, Scale, draw_boxes
from prepkd.views.picture import Image


class ResizedCrop(Augmentation):
    """Cut a box of a share `scale` of the area and an aspect ratio (width / height) out, and resize it to `size` squared.

    With `size` null, the result has the images' own size, which must be the same for all.
    """

    size: int | None = Field(default=None, ge=1)
    scale: Scale = (0.08, 1.0)
    ratio: Ratio = (3 / 4, 4 / 3)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Fractions: area, logarithm of the aspect ratio, top, left."""
        return (FRACTIONS,) * 4

    def boxes(
        self, fractions: NDArray[np.int64], heights: NDArray[np.int64], widths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Boxes (B, 4), top, left, height, width, in images (B,), from fractions (B, 4).

        If none of the ten draws fits, the box is torchvision's central one.
        """
        boxes = draw_boxes(fractions, heights, widths, scale=self.scale, ratio=self.ratio, smallest=1, margin=0)
        for i in np.flatnonzero(boxes[:, 2] == 0):
            boxes[i] = _central(int(heights[i]), int(widths[i]), *self.ratio)
        return boxes

    def render(self, images: Tensor | Sequence[Image], parameters: Tensor) -> Tensor:
        """Cut a box out of each image and resize it, bilinear and antialiased; uint8 (B, C, H, W), integers (B, 4).

        With a size, the images may also be a list of any sizes, uint8 (C, h, w) or decoded.
        """
        # Imported here: torchvision's transforms take more than a second, which recipes of crops and flips need not wait for.
        from torchvision.transforms.v2 import functional as F

        size = [self.size, self.size] if self.size else list(images[0].shape[-2:])
        if isinstance(images, Tensor) and not len(images):
            return images.new_empty((0, images.shape[1], *size))
        each = images.unbind() if isinstance(images, Tensor) else images
        heights, widths = np.array([image.shape[-2:] for image in each]).T
        boxes = self.boxes(parameters.cpu().numpy().astype(np.int64), heights, widths)
        cut = [_cut(image, *box) for image, box in zip(each, boxes.tolist(), strict=True)]
        return torch.stack([torch.as_tensor(F.resize_image(one, size)) for one in cut]).to(parameters.device)


def _central(height: int, width: int, low: float, high: float) -> tuple[int, int, int, int]:
    """The largest central box that the aspect ratio allows."""
    tall = min(height, max(1, round(width / low)))
    wide = min(width, max(1, round(height * high)))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _cut(image: Image, top: int, left: int, height: int, width: int) -> Tensor:
    if isinstance(image, Tensor):
        return image[:, top : top + height, left : left + width]
    return image.box(top, left, height, width)
