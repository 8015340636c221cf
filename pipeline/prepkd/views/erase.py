"""Erased boxes: rectangles of one value."""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from prepkd.views.augmentation import Augmentation
from prepkd.views.boxes import FRACTIONS, Ratio, Scale, draw_boxes


class Erase(Augmentation):
    """With a probability, set a box of a share `scale` of the area and an aspect ratio (height / width) to `value`."""

    probability: float = Field(default=0.5, ge=0, le=1)
    scale: Scale = (0.02, 0.33)
    ratio: Ratio = (0.3, 3.3)
    value: int = Field(default=0, ge=0, le=255)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Fractions: erased if below the probability, area, logarithm of the aspect ratio, top, left."""
        return (FRACTIONS,) * 5

    def boxes(self, fractions: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
        """Boxes (B, 4), top, left, height, width, from fractions (B, 5); empty if nothing is erased."""
        sides = np.full(len(fractions), height), np.full(len(fractions), width)
        # Of height / width, as in torchvision; the reciprocal is as uniform on a logarithmic scale.
        low, high = self.ratio
        boxes = draw_boxes(fractions[:, 1:], *sides, scale=self.scale, ratio=(1 / high, 1 / low), smallest=0, margin=1)
        boxes[fractions[:, 0] >= self.probability * FRACTIONS] = 0
        return boxes

    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Set each image's box to `value`; uint8 (B, C, H, W), integers (B, 5)."""
        height, width = images.shape[-2:]
        boxes = torch.from_numpy(self.boxes(parameters.cpu().numpy().astype(np.int64), height, width))
        top, left, tall, wide = boxes.to(images.device).view(-1, 4, 1).unbind(dim=1)
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        inside = ((rows >= top) & (rows < top + tall)).unsqueeze(2) & (
            (columns >= left) & (columns < left + wide)
        ).unsqueeze(1)
        return images.masked_fill(inside.unsqueeze(1), self.value)
