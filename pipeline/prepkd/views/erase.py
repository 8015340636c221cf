"""Erased boxes: rectangles of one value."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prepkd.views.boxes import draw_boxes
from prepkd.views.steps import FRACTIONS, Augmentation, Erase


def erased_boxes(integers: NDArray[np.int64], height: int, width: int, step: Erase) -> NDArray[np.int64]:
    """Boxes (B, 4), top, left, height, width, for integers (B, 5); an empty one where nothing is erased."""
    sides = np.full(len(integers), height), np.full(len(integers), width)
    low, high = step.ratio  # of height / width, as in torchvision; the reciprocal is as uniform on a logarithmic scale
    boxes = draw_boxes(integers[:, 1:], *sides, scale=step.scale, ratio=(1 / high, 1 / low), smallest=0, margin=1)
    boxes[integers[:, 0] >= step.probability * FRACTIONS] = 0
    return boxes


def erase(images: Tensor, parameters: Tensor, step: Augmentation) -> Tensor:
    """Set each image's box to the step's value; uint8 (B, C, H, W), integers (B, 5)."""
    assert isinstance(step, Erase)
    height, width = images.shape[-2:]
    boxes = torch.from_numpy(erased_boxes(parameters.cpu().numpy().astype(np.int64), height, width, step))
    top, left, tall, wide = boxes.to(images.device).view(-1, 4, 1).unbind(dim=1)
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside = ((rows >= top) & (rows < top + tall)).unsqueeze(2) & (
        (columns >= left) & (columns < left + wide)
    ).unsqueeze(1)
    return images.masked_fill(inside.unsqueeze(1), step.value)
