"""A model that normalises, and resizes, its pixels itself."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prepkd.data.samples.preprocessing import Preprocessing
from prepkd.errors import InputError


class Normalised(nn.Module):
    """A model that takes float pixels (B, C, H, W) in [0, 1]: resized where it asks for it, (x - mean) / std, then `body`.

    Raises InputError for images with another number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.body = body
        self.preprocessing = preprocessing
        # Not persistent: they stand in the checkpoint's card, where a person can read them.
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The body's output, logits (B, K), for pixels (B, C, H, W)."""
        return cast(Tensor, self.body(self.prepare(x)))

    def prepare(self, x: Tensor) -> Tensor:
        """The body's input: resized and normalised pixels."""
        # Without this, broadcasting turns a grey image into three channels and goes on.
        if x.shape[1] != self.mean.shape[1]:
            raise InputError(f"images have {x.shape[1]} channels; the model takes {self.mean.shape[1]}")
        size = self.preprocessing.size
        if size and x.shape[-2:] != (size, size):
            # Bicubic overshoots; pixels stay within [0, 1], as resized images do.
            x = functional.interpolate(x, (size, size), mode=self.preprocessing.interpolation, antialias=True).clamp(
                0, 1
            )
        return (x - self.mean) / self.std


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
