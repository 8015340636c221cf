"""Padded crops: the images' own size, cut out of a black border."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from prepkd.views.augmentation import Augmentation


class Crop(Augmentation):
    """Pad by `padding` black pixels, then cut the image's size out again at (top, left)."""

    padding: int = Field(default=4, ge=1, le=127)

    @property
    def ranges(self) -> tuple[int, ...]:
        """Top and left offset, each 0 to 2 * padding."""
        return (2 * self.padding + 1, 2 * self.padding + 1)

    def render(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Cut the window at (top, left) out of each padded image; uint8 (B, C, H, W), integers (B, 2)."""
        height, width = images.shape[-2:]
        padded = F.pad(images, [self.padding] * 4)
        # All windows as one strided view without a copy: (B, C, 2 pad + 1, 2 pad + 1, H, W); the index copies only B of them.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        rows = torch.arange(len(images), device=images.device)
        return windows[rows, :, parameters[:, 0].long(), parameters[:, 1].long()]
