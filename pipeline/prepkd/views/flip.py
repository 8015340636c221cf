"""Horizontal flips."""

import torch
from torch import Tensor

from prepkd.views.augmentation import Augmentation


class Flip(Augmentation):
    """Mirror left and right."""

    @property
    def ranges(self) -> tuple[int, ...]:
        """1 where the image is mirrored."""
        return (2,)

    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Mirror the images whose integer is 1; uint8 (B, C, H, W), integers (B, 1)."""
        return torch.where(parameters[:, 0].bool().view(-1, 1, 1, 1), images.flip(-1), images)
